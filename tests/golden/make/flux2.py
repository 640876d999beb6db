"""Makes `tiny-klein/`, `tiny-klein.safetensors` and its row of `flow.json`: FLUX.2 [klein] at toy size, from prompt to picture,
guided and not, with and without pictures to look at.
"""

import shutil

import numpy as np
from PIL import Image

from common import OUT, torch, write_json, write_tensors
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from flow import PROMPT, SEED, Tap, checked, fill, generator, language_tokenizer, thin
from transformers import Qwen3Config, Qwen3ForCausalLM

NAME = "tiny-klein"
LAYERS = (2, 4, 6)
RUN = {"prompt": PROMPT, "seed": SEED, "height": 24, "width": 40, "steps": 4, "guidance_scale": 4.0}
# Neither side a multiple, so that the rim goes; the second has another shape.
REFERENCES = [(70, 83), (64, 64)]


def build():
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=20, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=3, joint_attention_dim=72,
        timestep_guidance_channels=32, mlp_ratio=2.5, axes_dims_rope=(2, 4, 6, 4), rope_theta=2000, guidance_embeds=False,
    )
    # One layer more than is read, and a vocabulary beyond the tokenizer's.
    text = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=520, hidden_size=24, intermediate_size=40, num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=1024, rope_theta=1e6, tie_word_embeddings=True,
    ))
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 12), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        decoder_block_out_channels=(8, 16), layers_per_block=1, latent_channels=5, norm_num_groups=4, sample_size=32,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, time_shift_type="exponential")
    return Flux2KleinPipeline(
        scheduler=scheduler, vae=fill(f"{NAME}.vae", vae), text_encoder=fill(f"{NAME}.text", text), tokenizer=language_tokenizer(),
        transformer=fill(f"{NAME}.transformer", transformer), is_distilled=True,
    )


def load(dtype=torch.float32, is_distilled=True):
    at = OUT / NAME
    pipe = Flux2KleinPipeline.from_pretrained(
        at, torch_dtype=dtype, is_distilled=is_distilled,
        text_encoder=Qwen3ForCausalLM.from_pretrained(at / "text_encoder", dtype=dtype),
        transformer=Flux2Transformer2DModel.from_pretrained(at / "transformer", torch_dtype=dtype),
        vae=AutoencoderKLFlux2.from_pretrained(at / "vae", torch_dtype=dtype),
    )
    for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
        assert {p.dtype for p in part.parameters()} == {dtype}
        part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def references():
    return [Image.fromarray(np.random.default_rng(7 + i).integers(0, 256, (h, w, 3), dtype=np.uint8)) for i, (h, w) in enumerate(REFERENCES)]


def texts(pipe, tensors):
    chat = pipe.tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], tokenize=False, add_generation_prompt=True, enable_thinking=False)
    inputs = pipe.tokenizer(chat, return_tensors="pt", padding="max_length", truncation=True, max_length=512)
    tensors["ids"] = inputs["input_ids"][0]
    tensors["used"] = inputs["attention_mask"].sum()[None]
    hidden = []
    hooks = [layer.register_forward_hook(lambda m, a, o: hidden.append(o[0] if isinstance(o, tuple) else o)) for layer in pipe.text_encoder.model.layers]
    hooks.append(pipe.text_encoder.model.embed_tokens.register_forward_hook(lambda m, a, o: hidden.insert(0, o)))
    tensors["text.states"] = pipe.encode_prompt(PROMPT, text_encoder_out_layers=LAYERS)[0]
    for hook in hooks:
        hook.remove()
    for k, state in enumerate(hidden[: LAYERS[-1] + 1]):
        tensors[f"text.hidden.{k}"] = state
    return chat


def sample(pipe, tensors, kind, tap=None, **settings):
    latents = []

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        if tap:
            tap.release()
        return kwargs

    if tap:
        tap.watch("transformer", pipe.transformer, lambda n: n.count(".") <= 1 and n not in ("pos_embed", "transformer_blocks", "single_transformer_blocks")
                  and not n.startswith(("time_guidance_embed.", "double_stream_modulation_img.", "double_stream_modulation_txt.", "single_stream_modulation.", "norm_out."))
                  or n.endswith((".attn", ".ff", ".ff_context")))
    settings = {"height": RUN["height"], "width": RUN["width"], "guidance_scale": 1.0, **settings}
    image = pipe(
        prompt=PROMPT, num_inference_steps=RUN["steps"], generator=generator(), text_encoder_out_layers=LAYERS, callback_on_step_end=keep, output_type="np", **settings,
    ).images
    for i, value in enumerate(latents):
        tensors[f"{kind}.latents.step{i}"] = value
    tensors[f"{kind}.image.u8"] = torch.from_numpy(np.array(pipe.image_processor.numpy_to_pil(image)[0]))


def autoencoder(pipe, tensors):
    tap = Tap()
    wanted = lambda n: n in ("quant_conv", "post_quant_conv") or n.split(".")[0] in ("encoder", "decoder") and n.split(".")[-1] in (
        "conv_in", "conv_out", "conv_norm_out", "mid_block") or n.count(".") == 2 and "_blocks." in n
    tap.watch("vae", pipe.vae, wanted)
    draw = torch.Generator("cpu").manual_seed(1)
    dtype = pipe.vae.dtype
    packed = torch.randn((1, 20, 6, 10), generator=draw).to(dtype)
    tensors["vae.decode.input"] = packed
    std = torch.sqrt(pipe.vae.bn.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps)
    plain = pipe._unpatchify_latents(packed * std + pipe.vae.bn.running_mean.view(1, -1, 1, 1))
    tensors["vae.decode.output"] = pipe.vae.decode(plain, return_dict=False)[0]
    picture = (torch.rand((1, 3, 24, 40), generator=draw) * 2 - 1).to(dtype)
    tensors["vae.encode.input"] = picture
    tensors["vae.encode.output"] = pipe._encode_vae_image(picture, None)
    tap.release()
    tensors.update(tap.tensors)


@torch.no_grad()
def record(dtype=torch.float32, change=lambda pipe: None):
    """All tensors; `change` may spoil the model first."""
    tensors = {}
    for distilled in (True, False):
        pipe = load(dtype, distilled)
        change(pipe)
        if distilled:
            chat = texts(pipe, tensors)
            tap = Tap()
            tensors["noise"] = torch.randn((1, 20, 6, 10), generator=generator())
            sample(pipe, tensors, "plain", tap)
            tensors.update(tap.tensors)
            sample(pipe, tensors, "edit", image=references())
            # Without a size, it is the first reference's.
            sample(pipe, tensors, "edit-sized", image=references()[:1], height=None, width=None)
            autoencoder(pipe, tensors)
            sigmas = pipe.scheduler.sigmas
        else:
            sample(pipe, tensors, "guided", guidance_scale=RUN["guidance_scale"])
    for size in [(41, 57), (70, 90), (83, 31)]:
        tensors["scaled.{}x{}.u8".format(*size)] = torch.from_numpy(np.array(references()[0].resize(size, Image.Resampling.LANCZOS)))
    for i, picture in enumerate(references()):
        tensors[f"reference.{i}.u8"] = torch.from_numpy(np.array(picture))
    return tensors, {**RUN, "layers": LAYERS, "chat": chat, "sigmas": sigmas.tolist()}


def main():
    folder = OUT / NAME
    shutil.rmtree(folder, ignore_errors=True)
    build().save_pretrained(folder)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    tensors, settings = record()
    write_tensors(f"{NAME}.safetensors", thin(checked(NAME, tensors)))
    write_json(f"{NAME}.json", settings)


if __name__ == "__main__":
    main()
