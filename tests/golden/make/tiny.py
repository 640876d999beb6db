"""Makes the folders `tiny-sd/` and `tiny-sd2/`: Stable Diffusion pipelines small enough to keep, with weights that matter.

Fresh initialisation leaves such a model nearly the identity: an implementation could forget attention and still pass.
So every weight is drawn anew with these aims:

* linear and convolution weights keep the variance of what they read (normal, `gain / sqrt(fan in)`);
* the residual streams stay small (standard deviation about 0.05 to 0.4), so that the epsilon of every norm shows;
* queries and keys are large enough that softmax has opinions;
* norms have weights around 1 and biases around 0 that differ from channel to channel.

Weights are rounded to f16 and stored so; the golden numbers are computed in f32 from the rounded weights.
"""

import shutil
import zlib

from common import OUT, SHAPES, torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

# The first ending that fits decides. (gain of the weight, deviation of the bias)
GAINS = [
    # The residual streams: what is added to them, and what starts them.
    ("conv2", 0.1, 0.02),
    ("unet.conv_in", 0.1, 0.02),
    ("vae.encoder.conv_in", 0.2, 0.02),
    ("vae.decoder.conv_in", 0.1, 0.02),
    ("conv_shortcut", 1.0, 0.02),
    ("samplers.0.conv", 1.0, 0.02),
    ("proj_out", 0.12, 0.02),
    ("to_out.0", 0.4, 0.02),
    ("net.2", 0.4, 0.02),
    ("proj_in", 0.3, 0.02),
    ("out_proj", 0.3, 0.02),
    ("fc2", 0.3, 0.02),
    # Where peaks are wanted.
    ("to_q", 1.6, 0.1),
    ("to_k", 1.6, 0.1),
    ("q_proj", 1.8, 0.1),
    ("k_proj", 1.8, 0.1),
    ("net.0.proj", 1.6, 0.2),
    ("fc1", 1.6, 0.2),
    # The ends.
    ("unet.conv_out", 1.0, 0.1),
    ("decoder.conv_out", 0.5, 0.1),
    ("", 1.0, 0.1),
]


@torch.no_grad()
def fill(name, model):
    """Draws every weight of `model` from its own generator, seeded by its name: order of creation cannot change it."""
    for path, weight in model.named_parameters():
        whole = f"{name}.{path}"
        draw = torch.Generator("cpu").manual_seed(zlib.crc32(whole.encode()))
        normal = torch.randn(weight.shape, generator=draw)
        owner, kind = whole.rsplit(".", 1)
        if "embedding.weight" in path and "embeddings" in path:
            weight.copy_(0.05 * normal)
        elif "norm" in owner.rsplit(".", 1)[-1]:
            weight.copy_(1 + 0.25 * normal if kind == "weight" else 0.15 * normal)
        else:
            _, gain, bias = next(row for row in GAINS if owner.endswith(row[0]))
            fan_in = weight[0].numel() if weight.dim() > 1 else 1
            weight.copy_(normal * (gain / fan_in**0.5) if kind == "weight" else bias * normal)
    return model.half().eval()


def text_encoder(hidden, layers, activation):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=728, bos_token_id=726, eos_token_id=727, pad_token_id=727, max_position_embeddings=77,
        hidden_size=hidden, intermediate_size=hidden * 2, num_attention_heads=4, num_hidden_layers=layers,
        hidden_act=activation, projection_dim=hidden,
    ))


def vae(channels, groups, scaling_factor):
    return AutoencoderKL(
        block_out_channels=channels, down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels), layers_per_block=1, latent_channels=4,
        norm_num_groups=groups, sample_size=32, scaling_factor=scaling_factor,
    )


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "timestep_spacing": "leading"}


def tiny_sd():
    """As Stable Diffusion 1: 1x1 convolutions around the transformers, one head count for all, attention in the first block."""
    unet = UNet2DConditionModel(
        block_out_channels=(24, 40), layers_per_block=2, sample_size=16, cross_attention_dim=32, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        # diffusers' trap: this is the number of heads (of 3 and 5 dimensions), not their size.
        attention_head_dim=8,
    )
    # Guided by a network that was never trained, latents grow to a deviation near 10; the large scaling factor brings them
    # back to where the decoder's blocks matter.
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False)
    return text_encoder(32, 5, "quick_gelu"), unet, vae([16, 24], 8, 6.0), scheduler


def tiny_sd2():
    """As Stable Diffusion 2: linear projections, a head count per block, exact GELU in the text encoder, v-prediction."""
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=2, sample_size=16, cross_attention_dim=24, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[2, 4], use_linear_projection=True, transformer_layers_per_block=2,
    )
    scheduler = EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction")
    return text_encoder(24, 3, "gelu"), unet, vae([8, 16, 16], 4, 0.5), scheduler


def as_published(folder):
    """Renames weights to what the published Stable Diffusion files call them; both names must load.

    The text encoder's keys begin with `text_model.` and carry the positions as a buffer; the autoencoder's attention
    has `query`, `key`, `value` and `proj_attn`.
    """
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{k}": v for k, v in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        tensors = {k.replace(f".{new}.", f".{old}."): v for k, v in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


MODELS = {"tiny-sd": tiny_sd, "tiny-sd2": tiny_sd2}


def main():
    for name, parts in MODELS.items():
        text, unet, auto, scheduler = parts()
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        StableDiffusionPipeline(
            text_encoder=fill(f"{name}.text", text), unet=fill(f"{name}.unet", unet), vae=fill(f"{name}.vae", auto),
            tokenizer=CLIPTokenizer.from_pretrained(SHAPES / "tokenizer"), scheduler=scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        ).save_pretrained(folder)
        # The demo model's files as they are, rather than as this version of transformers would write them.
        shutil.rmtree(folder / "tokenizer")
        shutil.copytree(SHAPES / "tokenizer", folder / "tokenizer", copy_function=shutil.copyfile)
        if name == "tiny-sd2":
            as_published(folder)
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)


if __name__ == "__main__":
    main()
