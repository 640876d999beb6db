"""Makes `tiny-sdxl/`, `tiny-sdxl.safetensors` and `sdxl.json`: SDXL at toy size, its blocks, its runs, and likely mistakes.

The weights are drawn as `tiny.py` draws them; the runs are those of `models.py` through diffusers' SDXL pipeline, and three more
that only SDXL has: a negative prompt that is absent (zeros), layers left out of the prompt, and the model's own sampler as
SDXL-Turbo uses it (trailing, a few steps, no guidance).
"""

import contextlib
import shutil

import models
import mutations
import numpy as np
import tiny
from common import OUT, SHAPES, Tap, torch, write_json, write_tensors
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

NAME = "tiny-sdxl"
RUN = {**models.TINY, "height": 24, "width": 40, "encode": [24, 40], "guidance_scale": 5.0}
# For the parts of `models.py` that look a run up by its name.
models.RUNS[NAME] = RUN
# Three transformer blocks in a row with the peaks of the smaller models would make much of f32's own rounding.
GENTLER = [("net.0.proj", 1.0, 0.1), ("to_q", 1.2, 0.1), ("to_k", 1.2, 0.1)]


def second_text_encoder():
    """Its projection is narrower than its states; its end token is 2 in the config, as in the published file."""
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=728, bos_token_id=726, eos_token_id=2, pad_token_id=0, max_position_embeddings=77,
        hidden_size=24, intermediate_size=56, num_attention_heads=3, num_hidden_layers=4, hidden_act="gelu", projection_dim=20,
    ))


def make_folder():
    """Three levels of unequal channels, heads and depths; the finest attends to nothing, as in SDXL."""
    unet = UNet2DConditionModel(
        block_out_channels=(16, 24, 40), layers_per_block=1, sample_size=16, cross_attention_dim=32 + 24, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[2, 3, 5], transformer_layers_per_block=[1, 2, 3], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=20 + 6 * 8,
    )
    # As SDXL-Turbo's own file.
    scheduler = EulerAncestralDiscreteScheduler(**{**tiny.BETAS, "timestep_spacing": "trailing"})
    tokenizer = CLIPTokenizer.from_pretrained(SHAPES / "tokenizer")
    tiny.GAINS[:0] = GENTLER
    folder = OUT / NAME
    shutil.rmtree(folder, ignore_errors=True)
    StableDiffusionXLPipeline(
        text_encoder=tiny.fill(f"{NAME}.text", tiny.text_encoder(32, 3, "quick_gelu")),
        text_encoder_2=tiny.fill(f"{NAME}.text2", second_text_encoder()),
        unet=tiny.fill(f"{NAME}.unet", unet), vae=tiny.fill(f"{NAME}.vae", tiny.vae([12, 20], 4, 5.0)),
        tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler, add_watermarker=False,
    ).save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
        shutil.copytree(SHAPES / "tokenizer", folder / name, copy_function=shutil.copyfile)
    # The second tokenizer pads with the first token.
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / "tokenizer_2" / name
        path.write_text(path.read_text().replace('"pad_token": "<|endoftext|>"', '"pad_token": "!"'))
    (folder / "tokenizer_2" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "tokenizer.json").unlink()
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def load(dtype=torch.float32):
    at = OUT / NAME
    pipe = StableDiffusionXLPipeline.from_pretrained(
        at, torch_dtype=dtype, add_watermarker=False,
        text_encoder=CLIPTextModel.from_pretrained(at / "text_encoder", dtype=dtype),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(at / "text_encoder_2", dtype=dtype),
        unet=UNet2DConditionModel.from_pretrained(at / "unet", torch_dtype=dtype),
        vae=AutoencoderKL.from_pretrained(at / "vae", torch_dtype=dtype),
    )
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.unet, pipe.vae):
        assert {p.dtype for p in part.parameters()} == {dtype}
        part.eval()
    assert pipe.tokenizer_2.pad_token_id == 0 and pipe.tokenizer.pad_token_id == 727
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encoder(prefix, ids_prefix, tokenizer, model, texts, tensors):
    """Every hidden state of one encoder, row for row; the pooled state where there is one."""
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    out = model(ids, output_hidden_states=True)
    for row, value in enumerate(ids):
        tensors[f"{ids_prefix}.{row}"] = value
    for k, hidden in enumerate(out.hidden_states):
        tensors[f"{prefix}.hidden.{k}"] = hidden
    if hasattr(out, "text_embeds"):
        tensors[f"{prefix}.last"], tensors[f"{prefix}.pooled"] = out.last_hidden_state, out.text_embeds
    return out


def texts(pipe, tensors):
    """Row 0 is the negative prompt and row 1 the prompt. `odd` is a prompt that spells out an end token: pooled at the first."""
    rows = [RUN["negative_prompt"], RUN["prompt"]]
    encoder("text", "ids", pipe.tokenizer, pipe.text_encoder, rows, tensors)
    encoder("text2", "ids2", pipe.tokenizer_2, pipe.text_encoder_2, rows, tensors)
    # The last state of the first encoder is nowhere used.
    del tensors[f"text.hidden.{pipe.text_encoder.config.num_hidden_layers}"]
    positive, negative, pooled, negative_pooled = pipe.encode_prompt(
        RUN["prompt"], negative_prompt=RUN["negative_prompt"], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    tensors["text.context"] = torch.cat([negative, positive])
    assert torch.allclose(torch.cat([negative_pooled, pooled]), tensors["text2.pooled"], atol=1e-5)
    odd = {}
    encoder("text2", "ids2", pipe.tokenizer_2, pipe.text_encoder_2, ["a red <|endoftext|> circle"] * 2, odd)
    tensors["odd.pooled"] = odd["text2.pooled"]


def added(pipe, tensors):
    size = [float(RUN["height"]), float(RUN["width"])]
    ids = torch.tensor([[*size, 0.0, 0.0, *size]] * 2, dtype=pipe.unet.dtype)
    return {"text_embeds": tensors["text2.pooled"].to(pipe.unet.dtype), "time_ids": ids}


def odd_size(pipe, tensors):
    sample = torch.randn((2, 4, 9, 7), generator=torch.Generator("cpu").manual_seed(7)).to(pipe.unet.dtype)
    tensors["unet.odd.sample"] = sample
    tensors["unet.odd.output"] = pipe.unet(
        sample, torch.tensor(500.0), encoder_hidden_states=tensors["text.context"].to(pipe.unet.dtype),
        added_cond_kwargs=added(pipe, tensors)).sample


def sample(prefix, pipe, scheduler, tensors, tap=None, **changes):
    """One run from noise to pixels, every step recorded."""
    pipe.scheduler = scheduler
    latents, drawn = [], []

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        return kwargs

    settings = {
        "prompt": RUN["prompt"], "negative_prompt": RUN["negative_prompt"], "height": RUN["height"], "width": RUN["width"],
        "num_inference_steps": 5, "guidance_scale": RUN["guidance_scale"], "eta": 0.0, **changes,
    }
    if tap:
        tap.watch("unet", pipe.unet, lambda name: name != "add_time_proj" and models.unet_parts(name))
    with models.ancestral_noise(drawn):
        image = pipe(**settings, generator=models.generator(), callback_on_step_end=keep, output_type="np").images
    if tap:
        tap.release()
    for i, value in enumerate(latents):
        tensors[f"{prefix}.latents.step{i}"] = value
    tensors[f"{prefix}.image"] = torch.from_numpy(image[0])
    tensors[f"{prefix}.image.u8"] = torch.from_numpy(np.array(pipe.numpy_to_pil(image)[0]))
    return {"timesteps": scheduler.timesteps.tolist(), "init_noise_sigma": float(scheduler.init_noise_sigma)}, latents[-1]


@torch.no_grad()
def record(dtype=torch.float32, change=lambda pipe: None):
    pipe, tensors, settings = load(dtype), {}, {}
    own = pipe.scheduler
    change(pipe)
    shape = (1, 4, RUN["height"] // pipe.vae_scale_factor, RUN["width"] // pipe.vae_scale_factor)
    tensors["noise"] = torch.randn(shape, generator=models.generator())
    texts(pipe, tensors)
    models.times(pipe, tensors)
    odd_size(pipe, tensors)
    for kind, scheduler in models.schedulers("epsilon").items():
        tap = Tap() if kind == "ddim" else None
        settings[kind], latents = sample(kind, pipe, scheduler, tensors, tap)
        if tap:
            tensors.update(tap.tensors)
            models.autoencoder(NAME, pipe, latents, tensors)
    again = lambda: models.schedulers("epsilon")["ddim"]
    sample("absent", pipe, again(), tensors, negative_prompt=None)
    sample("empty", pipe, again(), tensors, negative_prompt="")
    sample("skip", pipe, again(), tensors, clip_skip=1)
    settings["turbo"], _ = sample("turbo", pipe, own, tensors, num_inference_steps=3, guidance_scale=0.0)
    return tensors, settings


# --- Likely mistakes: (what goes wrong, the part whose numbers must show it, a function that spoils a pipeline).

def no_addition(pipe):
    pipe.unet.add_embedding.register_forward_hook(lambda m, a, o: o * 0)


def sizes_swapped(pipe):
    """Width before height, in `time_ids`."""
    real = pipe.unet.forward

    def forward(*args, added_cond_kwargs, **rest):
        ids = added_cond_kwargs["time_ids"][:, [1, 0, 3, 2, 5, 4]]
        return real(*args, added_cond_kwargs={**added_cond_kwargs, "time_ids": ids}, **rest)

    pipe.unet.forward = forward


def sizes_before_text(pipe):
    width = 20
    pipe.unet.add_embedding.register_forward_pre_hook(lambda m, a: (torch.cat([a[0][:, width:], a[0][:, :width]], 1),))


def pooled_at_the_end(pipe):
    real = pipe.text_encoder_2.forward

    def forward(*args, **rest):
        out = real(*args, **rest)
        out.text_embeds = pipe.text_encoder_2.text_projection(out.last_hidden_state[:, -1])
        return out

    pipe.text_encoder_2.forward = forward


def unprojected(pipe):
    pipe.text_encoder_2.text_projection.forward = lambda x: x[:, :20]


def second_pad_as_first(pipe):
    pipe.tokenizer_2.pad_token = "<|endoftext|>"


def last_state(pipe):
    """The state after the last layer instead of the one before it."""
    for model in (pipe.text_encoder, pipe.text_encoder_2):
        real = model.forward

        def forward(*args, real=real, **rest):
            out = real(*args, **rest)
            out.hidden_states = (*out.hidden_states[:-2], out.hidden_states[-1], out.hidden_states[-1])
            return out

        model.forward = forward


def absent_is_empty(pipe):
    pipe.register_to_config(force_zeros_for_empty_prompt=False)


MISTAKES = [
    ("add_embedding left out", "unet", no_addition),
    ("width before height in the sizes", "unet", sizes_swapped),
    ("sizes before the pooled text", "unet", sizes_before_text),
    ("pooled at the last position", "text2", pooled_at_the_end),
    ("pooled without its projection", "text2", unprojected),
    ("second tokenizer padded as the first", "text2", second_pad_as_first),
    ("last state for the one before it", "text", last_state),
    ("absent negative prompt read as the empty one", "latents", absent_is_empty),
]


def mistakes(base):
    rows = []
    for what, part, spoil in MISTAKES:
        found = mutations.errors(record(change=spoil)[0], base)
        over = {k: e / mutations.gate(k) for k, e in found.items() if mutations.part_of(k) == part}
        worst = max(over, key=over.get)
        assert over[worst] >= mutations.MARGIN, (what, worst, over[worst])
        rows.append({"mistake": what, "part": part, "worst": worst, "worst_error": mutations.two(found[worst]), "times_gate": mutations.two(over[worst])})
    return rows


def floors(base):
    """The largest error of each kind that f32 makes against f64, from the same f32 noise."""
    real = models.ancestral_module.randn_tensor

    def draw(shape, generator=None, device=None, dtype=None, **rest):
        return real(shape, generator=generator, device=device, dtype=torch.float32, **rest).to(dtype)

    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl

    with contextlib.ExitStack() as stack:
        for owner in (models.ancestral_module, mutations.vae_module, pipeline_stable_diffusion_xl):
            stack.enter_context(mutations.patched(owner, "randn_tensor", draw))
        double, _ = record(torch.float64)
    worst = {}
    for key, error in mutations.errors(base, double).items():
        kind = mutations.part_of(key)
        if error >= worst.get(kind, {"error": -1.0})["error"]:
            worst[kind] = {"key": key, "error": mutations.two(error)}
    return worst


def main():
    make_folder()
    tensors, settings = record()
    write_tensors(f"{NAME}.safetensors", tensors)
    kept = {k: v for k, v in RUN.items() if k not in ("keep", "encode")}
    write_json("sdxl.json", {
        "runs": {NAME: {**kept, "samplers": settings}}, "floors": floors(tensors), "mutations": mistakes(tensors),
    })


if __name__ == "__main__":
    main()
