"""Makes `tiny-z-image/`, `tiny-z-image.safetensors` and `tiny-z-image.json`: Z-Image at toy size, from prompt to picture, guided
and not.
"""

import shutil

import numpy as np

from common import OUT, torch, write_json, write_tensors
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from flow import PROMPT, SEED, Tap, checked, fill, generator, language_tokenizer, thin
from transformers import Qwen3Config, Qwen3ForCausalLM

NAME = "tiny-z-image"
# 6 by 10 patches: four tokens are padding.
RUN = {"prompt": PROMPT, "negative_prompt": "blurry", "seed": SEED, "height": 24, "width": 40, "steps": 4, "guidance_scale": 2.5}


def build():
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=5, dim=54, n_layers=2, n_refiner_layers=2, n_heads=3, n_kv_heads=3, norm_eps=1e-5,
        qk_norm=True, cap_feat_dim=24, rope_theta=256.0, t_scale=1000.0, axes_dims=[4, 8, 6], axes_lens=[600, 64, 48],
    )
    text = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=520, hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=1024, rope_theta=1e6, tie_word_embeddings=True,
    ))
    vae = AutoencoderKL(
        block_out_channels=(8, 12), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
        latent_channels=5, norm_num_groups=4, sample_size=32, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=fill(f"{NAME}.vae", vae), text_encoder=fill(f"{NAME}.text", text),
        tokenizer=language_tokenizer(), transformer=fill(f"{NAME}.transformer", transformer),
    )


def load(dtype=torch.float32):
    at = OUT / NAME
    pipe = ZImagePipeline.from_pretrained(
        at, torch_dtype=dtype,
        text_encoder=Qwen3ForCausalLM.from_pretrained(at / "text_encoder", dtype=dtype),
        transformer=ZImageTransformer2DModel.from_pretrained(at / "transformer", torch_dtype=dtype),
        vae=AutoencoderKL.from_pretrained(at / "vae", torch_dtype=dtype),
    )
    for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
        assert {p.dtype for p in part.parameters()} == {dtype}
        part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def texts(pipe, tensors):
    chat = pipe.tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    tensors["ids"] = pipe.tokenizer(chat, return_tensors="pt")["input_ids"][0]
    tensors["text.states"] = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False)[0][0][None]
    return chat


def sample(pipe, tensors, kind, tap=None, **settings):
    latents = []

    wanted = lambda n: n in ("t_embedder", "all_final_layer.2-1") or n.split(".")[0] in ("noise_refiner", "context_refiner", "layers") and (
        n.count(".") == 1 or n.split(".")[-1] in ("attention", "feed_forward"))

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        # The first step's time is 0, which hides its embedding; the second is recorded.
        if tap and i == 0:
            tap.watch("transformer", pipe.transformer, wanted)
        elif tap:
            tap.release()
        return kwargs

    image = pipe(
        prompt=PROMPT, height=RUN["height"], width=RUN["width"], num_inference_steps=RUN["steps"], generator=generator(),
        callback_on_step_end=keep, output_type="np", **settings,
    ).images
    for i, value in enumerate(latents):
        tensors[f"{kind}.latents.step{i}"] = value
    tensors[f"{kind}.image.u8"] = torch.from_numpy(np.array(pipe.image_processor.numpy_to_pil(image)[0]))


def autoencoder(pipe, tensors):
    tap = Tap()
    tap.watch("vae", pipe.vae, lambda n: n in ("decoder.conv_in", "decoder.mid_block", "decoder.conv_norm_out", "decoder.conv_out") or n.startswith("decoder.up_blocks.") and n.count(".") == 2)
    latents = torch.randn((1, 5, 12, 20), generator=torch.Generator("cpu").manual_seed(1)).to(pipe.vae.dtype)
    tensors["vae.decode.input"] = latents
    tensors["vae.decode.output"] = pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor, return_dict=False)[0]
    tap.release()
    tensors.update(tap.tensors)


@torch.no_grad()
def record(dtype=torch.float32, change=lambda pipe: None):
    """All tensors; `change` may spoil the model first."""
    tensors, pipe = {}, load(dtype)
    change(pipe)
    chat = texts(pipe, tensors)
    tap = Tap()
    sample(pipe, tensors, "plain", tap, guidance_scale=0.0)
    tensors.update(tap.tensors)
    sample(pipe, tensors, "guided", guidance_scale=RUN["guidance_scale"], negative_prompt=RUN["negative_prompt"])
    autoencoder(pipe, tensors)
    return tensors, {**RUN, "chat": chat, "sigmas": pipe.scheduler.sigmas.tolist()}


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
