"""Makes `single/`: how the tiny models are written as single files in the layout of Stable Diffusion's own checkpoints, and
the headers of full-size ones.

The names are turned around here; that they are right is then shown by diffusers' own conversion, which must give back
every tensor of the folder. `names.json` says from which tensors of the folder each tensor of the file is made, so that a
test can write the file. `headers.json` has the names and shapes of full-size files, made on the meta device: a test
writes such a header over an empty file of that length.
"""

import re

import torch
from common import OUT, write_json
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as reference
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


class Named:
    """Stands for a tensor while names are turned around: where it comes from, and what is done to it."""

    def __init__(self, names, turn=""):
        self.names, self.turn = names, turn

    @property
    def T(self):
        return Named(self.names, "transposed")

    def __getitem__(self, _):
        return Named(self.names, "1x1")


def cat(values):
    return Named([name for value in values for name in value.names]) if isinstance(values[0], Named) else torch.cat(values)


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2", "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}


def unet_key(key, layers, attends_up):
    """Where a tensor of the denoising network lies; `attends_up` tells which levels going up attend."""
    for ours, theirs in OUTSIDE.items():
        if key.startswith(ours + "."):
            return theirs + key[len(ours):]
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key):
        part, index, rest = match.groups()
        return f"middle_block.{2 * int(index)}.{resnet(rest)}" if part == "resnets" else f"middle_block.1.{rest}"
    way, level, part, index, rest = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", key).groups()
    level, index = int(level), int(index)
    if way == "down":
        block = 1 + level * (layers + 1) + index
        if part == "downsamplers":
            return f"input_blocks.{(level + 1) * (layers + 1)}.0.op{rest[4:]}"
        return f"input_blocks.{block}.0.{resnet(rest)}" if part == "resnets" else f"input_blocks.{block}.1.{rest}"
    block = level * (layers + 1) + index
    if part == "upsamplers":
        return f"output_blocks.{(level + 1) * (layers + 1) - 1}.{2 if attends_up[level] else 1}.{rest}"
    return f"output_blocks.{block}.0.{resnet(rest)}" if part == "resnets" else f"output_blocks.{block}.1.{rest}"


def resnet(rest):
    for ours, theirs in RESNET.items():
        if rest.startswith(ours + "."):
            return theirs + rest[len(ours):]
    raise KeyError(rest)


def vae_key(key, levels):
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = key.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    if "mid_block.attentions.0." in key:
        key = key.replace("mid_block.attentions.0.", "mid.attn_1.").replace("group_norm", "norm")
        for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            key = key.replace(f".{ours}.", f".{theirs}.")
    key = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", key)
    key = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{levels - 1 - int(m[1])}.", key)
    return key.replace(".resnets.", ".block.").replace(".downsamplers.0.", ".downsample.").replace(".upsamplers.0.", ".upsample.")


def open_clip(tensors, prefix):
    """A text encoder as OpenCLIP keeps it: three matrices in one, the projection turned."""
    out, plain = {}, {"embeddings.position_embedding.weight": "positional_embedding", "embeddings.token_embedding.weight": "token_embedding.weight"}
    rename = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    start = "text_model." if "text_model.final_layer_norm.weight" in tensors else ""
    for key, value in tensors.items():
        key = key.removeprefix("text_model.")
        if key == "text_projection.weight":
            out[f"{prefix}text_projection"] = value.T
        elif key in plain:
            out[prefix + plain[key]] = value
        elif key.startswith("final_layer_norm"):
            out[prefix + key.replace("final_layer_norm", "ln_final")] = value
        elif match := re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", key):
            layer, part, kind = match.groups()
            if part in ("self_attn.k_proj", "self_attn.v_proj"):
                continue
            if part == "self_attn.q_proj":
                value = cat([tensors[f"{start}encoder.layers.{layer}.self_attn.{n}_proj.{kind}"] for n in "qkv"])
                out[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = value
            else:
                out[f"{prefix}transformer.resblocks.{layer}.{rename[part]}.{kind}"] = value
    return out


def single(unet, unet_config, vae, vae_config, texts):
    """A whole checkpoint; `texts` is done already."""
    attends = ["CrossAttn" in kind for kind in unet_config["up_block_types"]]
    layers = unet_config["layers_per_block"]
    out = {f"model.diffusion_model.{unet_key(k, layers, attends)}": v for k, v in unet.items()}
    for key, value in vae.items():
        old = key
        for new, past in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            old = old.replace(f".{past}.", f".{new}.")
        key = vae_key(old, len(vae_config["block_out_channels"]))
        linear = ".mid.attn_1." in key and key.endswith(".weight") and ".norm." not in key
        out[f"first_stage_model.{key}"] = value[:, :, None, None] if linear else value
    return {**out, **texts}


def without(tensors):
    """The text encoder's tensors by their names today, without tables of positions."""
    return {k.removeprefix("text_model."): v for k, v in tensors.items() if not k.endswith("position_ids")}


def tiny(name):
    """How a model's folder becomes one file; diffusers must read that file back to the folder's tensors."""
    folder = OUT / name
    unet, vae = UNet2DConditionModel.from_pretrained(folder / "unet"), AutoencoderKL.from_pretrained(folder / "vae")
    texts = {"text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder")}
    if name == "tiny-sdxl":
        texts["text_encoder_2"] = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
    weights = {component: load_file(next((folder / component).glob("*.safetensors"))) for component in ("unet", "vae", *texts)}
    names = {component: {key: Named([f"{component}/{key}"]) for key in tensors} for component, tensors in weights.items()}

    def checkpoint(of):
        out = {}
        for component in texts:
            text = without(of[component])
            if name == "tiny-sd2":
                out |= open_clip(text, "cond_stage_model.model.")
            elif component == "text_encoder_2":
                out |= open_clip(text, "conditioner.embedders.1.model.")
            else:
                prefix = "conditioner.embedders.0" if name == "tiny-sdxl" else "cond_stage_model"
                out |= {f"{prefix}.transformer.text_model.{k}": v for k, v in text.items()}
        return single(of["unet"], unet.config, of["vae"], vae.config, out)

    file = checkpoint(weights)
    equal(reference.convert_ldm_unet_checkpoint(dict(file), unet.config), unet.state_dict())
    equal(reference.convert_ldm_vae_checkpoint(dict(file), vae.config), vae.state_dict())
    for component, text in texts.items():
        if name == "tiny-sd2":
            back = reference.convert_open_clip_checkpoint(text, dict(file))
        elif component == "text_encoder_2":
            back = reference.convert_open_clip_checkpoint(text, dict(file), prefix="conditioner.embedders.1.model.")
        else:
            back = reference.convert_ldm_clip_checkpoint(dict(file))
        equal(without(back), without(text.state_dict()))
    return {key: " ".join(filter(None, [value.turn, *value.names])) for key, value in sorted(checkpoint(names).items())}


def equal(got, want):
    missing, extra = set(want) - set(got), set(got) - set(want)
    assert not missing and not extra, (sorted(missing)[:5], sorted(extra)[:5])
    for key, value in want.items():
        assert got[key].shape == value.shape and torch.equal(got[key].float(), value.float()), key


BASE = dict(block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
XL = dict(
    block_out_channels=(320, 640, 1280), layers_per_block=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=[5, 10, 20], cross_attention_dim=2048, transformer_layers_per_block=[1, 2, 10], use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)
VAE = dict(block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def clip(kind, width, inner, layers, heads, projection):
    return kind(CLIPTextConfig(hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads, projection_dim=projection)).state_dict()


def full():
    """Headers of full-size files: names and shapes, no values."""
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
        large = clip(CLIPTextModel, 768, 3072, 12, 12, 768)
        models = {
            "stable-diffusion-1": (UNet2DConditionModel(**BASE, attention_head_dim=8, cross_attention_dim=768), {f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in large.items()}),
            "stable-diffusion-1-inpaint": (UNet2DConditionModel(**BASE, in_channels=9, attention_head_dim=8, cross_attention_dim=768), {f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in large.items()}),
            "stable-diffusion-2": (UNet2DConditionModel(**BASE, attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True), open_clip(clip(CLIPTextModel, 1024, 4096, 24, 16, 1024), "cond_stage_model.model.")),
            "stable-diffusion-xl": (UNet2DConditionModel(**XL), {
                **{f"conditioner.embedders.0.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in large.items()},
                **open_clip(clip(CLIPTextModelWithProjection, 1280, 5120, 32, 20, 1280), "conditioner.embedders.1.model."),
            }),
        }
        return {name: pack(single(unet.state_dict(), unet.config, vae.state_dict(), vae.config, texts)) for name, (unet, texts) in models.items()}


def pack(tensors):
    """Names with their numbers taken out, and for each shape the numbers: a header in a few lines."""
    rows = {}
    for key in sorted(tensors):
        pattern, numbers = re.sub(r"\d+", "#", key), " ".join(re.findall(r"\d+", key))
        rows.setdefault(pattern, {}).setdefault(" ".join(map(str, tensors[key].shape)), []).append(numbers)
    return {pattern: {shape: ",".join(numbers) for shape, numbers in shapes.items()} for pattern, shapes in rows.items()}


def main():
    (OUT / "single").mkdir(exist_ok=True)
    write_json("single/names.json", {name: tiny(name) for name in ("tiny-sd", "tiny-sd2", "tiny-sdxl")})
    write_json("single/headers.json", full())


if __name__ == "__main__":
    main()
