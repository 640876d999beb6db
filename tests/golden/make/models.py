"""Makes `tiny-sd.safetensors`, `tiny-sd2.safetensors`, `shapes.safetensors` and `runs.json`.

Each model is loaded from its folder by diffusers, in f32, and run as a user of diffusers would run it; hooks record
what every block gave on its first call. `runs.json` holds what a test must set to repeat the runs.
"""

import contextlib

import numpy as np
from PIL import Image

from common import OUT, SHAPES, Tap, torch, write_json, write_tensors
from diffusers import (
    AutoencoderKL, DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel,
)
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral_module
from transformers import CLIPTextModel

SEED = 42
# A large tensor of the demo model is kept as every n-th value of its flat form; a prime does not beat with any shape.
SAMPLES = 1536

TINY = {
    "prompt": "a red circle on a blue background", "negative_prompt": "blurry, low quality", "seed": SEED, "guidance_scale": 6.0,
    # Height differs from width, so that a swapped axis shows.
    "height": 16, "width": 24, "steps": {"ddim": 5, "euler": 5, "euler_ancestral": 5}, "keep": None, "encode": [16, 24],
}
RUNS = {
    "tiny-sd": TINY,
    "tiny-sd2": {**TINY, "height": 40, "width": 24, "encode": [40, 24]},
    "shapes": {
        "prompt": "a red circle on a blue background", "negative_prompt": "", "seed": SEED, "guidance_scale": 5.0,
        "height": 128, "width": 128, "steps": {"ddim": 20, "euler": 8, "euler_ancestral": 8}, "encode": [64, 96],
        "keep": {"ddim": [0, 1, 5, 10, 19], "euler": [0, 7], "euler_ancestral": [0, 7]},
    },
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "timestep_spacing": "leading"}


def folder(name):
    return SHAPES if name == "shapes" else OUT / name


def load(name, dtype=torch.float32):
    """The parts by their own loaders, so that `dtype` is what each computes in."""
    at = folder(name)
    pipe = StableDiffusionPipeline.from_pretrained(
        at, torch_dtype=dtype,
        text_encoder=CLIPTextModel.from_pretrained(at / "text_encoder", dtype=dtype),
        unet=UNet2DConditionModel.from_pretrained(at / "unet", torch_dtype=dtype),
        vae=AutoencoderKL.from_pretrained(at / "vae", torch_dtype=dtype),
    )
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        assert {p.dtype for p in part.parameters()} == {dtype}
        part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def schedulers(prediction_type):
    """The three samplers every model is run with, whatever its own scheduler file says."""
    return {
        "ddim": DDIMScheduler(**BETAS, prediction_type=prediction_type, clip_sample=False, set_alpha_to_one=False),
        "euler": EulerDiscreteScheduler(**BETAS, prediction_type=prediction_type),
        "euler_ancestral": EulerAncestralDiscreteScheduler(**BETAS, prediction_type=prediction_type),
    }


def generator():
    return torch.Generator("cpu").manual_seed(SEED)


@contextlib.contextmanager
def ancestral_noise(record):
    """Lists what the ancestral sampler draws, in order."""
    real = ancestral_module.randn_tensor

    def draw(*args, **kwargs):
        record.append(real(*args, **kwargs))
        return record[-1]

    ancestral_module.randn_tensor = draw
    yield
    ancestral_module.randn_tensor = real


def texts(name, pipe, tensors):
    """Row 0 is the negative prompt and row 1 the prompt: the order in which guidance stacks them."""
    run = RUNS[name]
    rows = []
    for i, text in enumerate((run["negative_prompt"], run["prompt"])):
        ids = pipe.tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        hidden = []
        hooks = [layer.register_forward_hook(lambda m, a, o: hidden.append(o)) for layer in pipe.text_encoder.encoder.layers]
        hooks.append(pipe.text_encoder.embeddings.register_forward_hook(lambda m, a, o: hidden.insert(0, o)))
        out = pipe.text_encoder(ids, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        # What transformers calls `hidden_states[k]` is the embeddings and then each layer's output.
        assert len(hidden) == len(out.hidden_states) and all(torch.equal(a, b) for a, b in zip(hidden, out.hidden_states))
        rows.append([*hidden, pipe.text_encoder.final_layer_norm(hidden[-2]), out.last_hidden_state])
        tensors[f"ids.{i}"] = ids[0]
    names = [f"text.hidden.{k}" for k in range(len(rows[0]) - 2)] + ["text.clip_skip.1", "text.last"]
    for key, pair in zip(names, zip(*rows)):
        tensors[key] = torch.cat(pair)


def unet_parts(name):
    """The blocks, what they are made of, and inside each transformer its attentions and feed-forwards."""
    *above, last = name.split(".")
    return last not in ("time_proj", "conv_act", "down_blocks", "up_blocks") and (
        not above
        or above in (["down_blocks"], ["up_blocks"])
        or above[-1] in ("resnets", "attentions", "downsamplers", "upsamplers", "transformer_blocks")
        or last in ("attn1", "attn2", "ff")
    )


def vae_parts(name):
    """The blocks of both halves and what they are made of."""
    *above, last = name.split(".")
    if last in ("encoder", "decoder", "conv_act", "down_blocks", "up_blocks"):
        return False
    return len(above) <= 1 or above[-1] in ("down_blocks", "up_blocks", "resnets", "attentions", "downsamplers", "upsamplers")


def times(pipe, tensors):
    """Timesteps as a network sees them, fractions included (Euler with Karras sigmas makes such)."""
    t = torch.tensor([0.0, 1.0, 250.25, 801.0, 958.0, 999.0])
    tensors["unet.times"] = t
    tensors["unet.times.proj"] = pipe.unet.time_proj(t)
    tensors["unet.times.embedding"] = pipe.unet.time_embedding(pipe.unet.time_proj(t).to(pipe.unet.dtype))


def odd_size(pipe, tensors, context):
    """Latents whose sides no power of two divides: the up blocks must restore the sizes of their skips."""
    sample = torch.randn((2, 4, 9, 7), generator=torch.Generator("cpu").manual_seed(7)).to(pipe.unet.dtype)
    tensors["unet.odd.sample"] = sample
    tensors["unet.odd.output"] = pipe.unet(sample, torch.tensor(500.0), encoder_hidden_states=context.to(pipe.unet.dtype)).sample


def sample(name, pipe, kind, scheduler, tensors, tap=None):
    """One run from noise to pixels, every kept step recorded; `step0` is what the first step left."""
    run, keep = RUNS[name], (RUNS[name]["keep"] or {}).get(kind)
    pipe.scheduler = scheduler
    latents, drawn = [], []

    def keep_latents(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        return kwargs

    if tap:
        tap.watch("unet", pipe.unet, unet_parts)
    with ancestral_noise(drawn):
        image = pipe(
            prompt=run["prompt"], negative_prompt=run["negative_prompt"], height=run["height"], width=run["width"],
            num_inference_steps=run["steps"][kind], guidance_scale=run["guidance_scale"], generator=generator(), eta=0.0,
            callback_on_step_end=keep_latents, output_type="np",
        ).images
    if tap:
        tap.release()
    for i, value in enumerate(latents):
        if keep is None or i in keep:
            tensors[f"{kind}.latents.step{i}"] = value
            if drawn:
                tensors[f"{kind}.noise.step{i}"] = drawn[i]
    if name != "shapes":
        tensors[f"{kind}.image"] = torch.from_numpy(image[0])
    # Height, width, RGB; as diffusers makes a PNG.
    tensors[f"{kind}.image.u8"] = torch.from_numpy(np.array(pipe.numpy_to_pil(image)[0]))
    settings = {"timesteps": scheduler.timesteps.tolist(), "init_noise_sigma": float(scheduler.init_noise_sigma)}
    return settings, latents[-1]


def autoencoder(name, pipe, latents, tensors):
    """Decodes the latents DDIM ended with, or normals where those mean nothing; encodes a picture of uniform noise."""
    tap = Tap()
    tap.watch("vae", pipe.vae, vae_parts)
    if name == "shapes":
        tensors["vae.decode.input"] = latents / pipe.vae.config.scaling_factor
    else:
        tensors["vae.decode.input"] = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(12)).to(latents)
    tensors["vae.decode.output"] = pipe.vae.decode(tensors["vae.decode.input"]).sample
    height, width = RUNS[name]["encode"]
    picture = torch.rand((1, 3, height, width), generator=torch.Generator("cpu").manual_seed(11)).mul(2).sub(1).to(pipe.vae.dtype)
    posterior = pipe.vae.encode(picture).latent_dist
    tap.release()
    tensors.update(tap.tensors)
    tensors["vae.encode.input"] = picture
    tensors["vae.encode.mean"], tensors["vae.encode.logvar"] = posterior.mean, posterior.logvar
    tensors["vae.encode.sample"] = posterior.sample(generator=generator())


def from_image(name, pipe, kind, scheduler, tensors):
    """Image to image: strength 0.6 of five steps leaves three; the VAE draws first and the noise second."""
    run = RUNS[name]
    other = StableDiffusionImg2ImgPipeline(**{**pipe.components, "scheduler": scheduler})
    other.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(5).integers(0, 256, (run["height"], run["width"], 3), dtype=np.uint8)
    latents = []

    def keep_latents(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        return kwargs

    image = other(
        prompt=run["prompt"], negative_prompt=run["negative_prompt"], image=Image.fromarray(picture), strength=0.6,
        num_inference_steps=5, guidance_scale=run["guidance_scale"], generator=generator(), callback_on_step_end=keep_latents, output_type="np",
    ).images
    tensors["img2img.input.u8"] = torch.from_numpy(picture)
    for i, value in enumerate(latents):
        tensors[f"img2img.{kind}.latents.step{i}"] = value
    tensors[f"img2img.{kind}.image.u8"] = torch.from_numpy(np.array(other.numpy_to_pil(image)[0]))


@torch.no_grad()
def record(name, dtype=torch.float32, change=lambda pipe: None):
    """All tensors of one model, and the settings its runs were made with; `change` may spoil the model first."""
    pipe, tensors, settings = load(name, dtype), {}, {}
    change(pipe)
    run = RUNS[name]
    shape = (1, 4, run["height"] // pipe.vae_scale_factor, run["width"] // pipe.vae_scale_factor)
    tensors["noise"] = torch.randn(shape, generator=generator())
    texts(name, pipe, tensors)
    times(pipe, tensors)
    odd_size(pipe, tensors, tensors["text.last"])
    for kind, scheduler in schedulers(pipe.scheduler.config.prediction_type).items():
        tap = Tap() if kind == "ddim" else None
        settings[kind], latents = sample(name, pipe, kind, scheduler, tensors, tap)
        if tap:
            tensors.update(tap.tensors)
            autoencoder(name, pipe, latents, tensors)
        if name != "shapes" and kind != "euler_ancestral":
            from_image(name, pipe, kind, schedulers(scheduler.config.prediction_type)[kind], tensors)
    return tensors, settings


def thin(tensors):
    """Keeps every n-th value of what is large, inputs excepted; the key then ends in `#n`."""
    kept = {}
    for key, value in tensors.items():
        stride = 1
        if key.startswith(("text.", "unet.", "vae.")) and not key.endswith((".input", ".odd.sample")) and value.numel() > SAMPLES:
            stride = next(p for p in range(max(3, -(-value.numel() // SAMPLES)), 10**6) if all(p % q for q in range(2, p)))
        kept[key if stride == 1 else f"{key}#{stride}"] = value if stride == 1 else value.flatten()[::stride]
    return kept


def main():
    everything = {}
    for name, run in RUNS.items():
        tensors, settings = record(name)
        for key, value in tensors.items():
            assert value.dtype in (torch.float32, torch.uint8, torch.int64), (key, value.dtype)
            assert value.is_floating_point() is False or value.isfinite().all(), key
        write_tensors(f"{name}.safetensors", thin(tensors) if name == "shapes" else tensors)
        everything[name] = {**{k: v for k, v in run.items() if k not in ("keep", "encode")}, "samplers": settings}
    write_json("runs.json", everything)


if __name__ == "__main__":
    main()
