"""Makes `tiny-inpaint/`, `edits.safetensors` and `edits.json`: changing pictures and painting parts of them anew.

`tiny-inpaint/` is a network with nine input channels, for the other parts of `tiny-sd/`. Every run is one of diffusers'
image-to-image or inpainting pipelines as a user would call it; `edits.json` lists them, and likely mistakes. The image-to-image
runs of `tiny-sd` and `tiny-sd2` are with the rest of their numbers (`models.py`).
"""

import contextlib
import shutil

import models
import mutations
import numpy as np
import sdxl
import tiny
from common import OUT, relative_l2, torch, write_json, write_tensors
from diffusers import (
    StableDiffusionInpaintPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as plain
from PIL import Image

NINE = "tiny-inpaint"
# (name, model, pipeline, sampler, strength)
RUNS = [
    ("xl.ddim", "tiny-sdxl", "image", "ddim", 0.6),
    ("xl.euler_ancestral", "tiny-sdxl", "image", "euler_ancestral", 0.8),
    ("sd.ddim", "tiny-sd", "inpaint", "ddim", 0.6),
    ("sd.whole", "tiny-sd", "inpaint", "ddim", 1.0),
    ("sd.euler", "tiny-sd", "inpaint", "euler", 0.8),
    ("sd.euler_ancestral", "tiny-sd", "inpaint", "euler_ancestral", 0.8),
    ("xl.inpaint", "tiny-sdxl", "inpaint", "euler_ancestral", 0.6),
    ("nine.whole", NINE, "inpaint", "euler_ancestral", 1.0),
    ("nine.ddim", NINE, "inpaint", "ddim", 0.6),
]


def make_folder():
    folder = OUT / NINE
    shutil.rmtree(folder, ignore_errors=True)
    unet = UNet2DConditionModel(
        in_channels=9, block_out_channels=(16, 24), layers_per_block=1, sample_size=16, cross_attention_dim=32, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    )
    tiny.fill(f"{NINE}.unet", unet).save_pretrained(folder / "unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").chmod(0o644)


def load(model, dtype=torch.float32):
    if model == "tiny-sdxl":
        return sdxl.load(dtype)
    pipe = models.load("tiny-sd", dtype)
    if model == NINE:
        unet = UNet2DConditionModel.from_pretrained(OUT / NINE / "unet", torch_dtype=dtype).eval()
        pipe.register_modules(unet=unet)
    return pipe


def given(model):
    """A picture of noise, and a mask with a slanted edge whose greys lie on both sides of the middle."""
    run = models.RUNS["tiny-sdxl" if model == "tiny-sdxl" else "tiny-sd"]
    height, width = run["height"], run["width"]
    picture = np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    mask = np.clip(127.5 + 40 * (columns - 0.45 * width - 0.3 * rows), 0, 255).round().astype(np.uint8)
    return picture, mask


CLASSES = {
    ("tiny-sdxl", "image"): StableDiffusionXLImg2ImgPipeline, ("tiny-sdxl", "inpaint"): StableDiffusionXLInpaintPipeline,
    ("tiny-sd", "inpaint"): StableDiffusionInpaintPipeline, (NINE, "inpaint"): StableDiffusionInpaintPipeline,
}


def sample(run, tensors, dtype=torch.float32, mask_of=lambda mask: mask, strength_of=lambda strength: strength):
    name, model, kind, sampler, strength = run
    pipe = load(model, dtype)
    parts = {**pipe.components, "scheduler": models.schedulers("epsilon")[sampler]}
    known = CLASSES[model, kind].__init__.__code__.co_varnames
    extra = {"add_watermarker": False} if model == "tiny-sdxl" else {"requires_safety_checker": False}
    pipe = CLASSES[model, kind](**{k: v for k, v in parts.items() if k in known}, **extra)
    pipe.set_progress_bar_config(disable=True)
    picture, mask = given(model)
    settings = models.RUNS["tiny-sdxl" if model == "tiny-sdxl" else "tiny-sd"]
    latents = []

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        return kwargs

    call = {
        "prompt": settings["prompt"], "negative_prompt": settings["negative_prompt"], "image": Image.fromarray(picture), "num_inference_steps": 5,
        "guidance_scale": settings["guidance_scale"], "strength": strength_of(strength), "generator": models.generator(),
        "callback_on_step_end": keep, "output_type": "np",
    }
    if kind == "inpaint":
        call |= {"mask_image": Image.fromarray(mask_of(mask)), "height": picture.shape[0], "width": picture.shape[1]}
    image = pipe(**call).images
    tensors[f"{model}.input.u8"], tensors[f"{model}.mask.u8"] = torch.from_numpy(picture), torch.from_numpy(mask)
    for i, value in enumerate(latents):
        tensors[f"{name}.latents.step{i}"] = value
    tensors[f"{name}.image"] = torch.from_numpy(image[0])
    tensors[f"{name}.image.u8"] = torch.from_numpy(np.array(pipe.numpy_to_pil(image)[0]))


@torch.no_grad()
def record(runs=RUNS, **rest):
    tensors = {}
    for run in runs:
        sample(run, tensors, **rest)
    return tensors


# --- Likely mistakes: (what goes wrong, the run that must show it, a context in which it goes wrong, arguments of `record`).

def mean_for_sample():
    return mutations.patched(plain, "retrieve_latents", lambda output, generator=None, sample_mode="sample": output.latent_dist.mean)


@contextlib.contextmanager
def undrawn():
    """The masked picture's sample is not drawn, since a network of four channels does not look at it."""
    real = StableDiffusionInpaintPipeline.prepare_mask_latents

    def prepare(self, mask, masked_image, batch_size, height, width, dtype, device, generator, guided):
        return real(self, mask, masked_image, batch_size, height, width, dtype, device, torch.Generator("cpu").manual_seed(1), guided)

    with mutations.patched(StableDiffusionInpaintPipeline, "prepare_mask_latents", prepare):
        yield


@contextlib.contextmanager
def unmasked():
    """The whole picture beside the latents instead of what the mask leaves."""
    real = StableDiffusionInpaintPipeline.prepare_mask_latents

    def prepare(self, mask, masked_image, *rest):
        picture = torch.from_numpy(given(NINE)[0]).float().div(127.5).sub(1).permute(2, 0, 1)[None]
        return real(self, mask, picture, *rest)

    with mutations.patched(StableDiffusionInpaintPipeline, "prepare_mask_latents", prepare):
        yield


MISTAKES = [
    ("mean of the picture's latents for a sample", "sd.ddim", mean_for_sample, {}),
    ("mask the other way round", "sd.whole", contextlib.nullcontext, {"mask_of": lambda mask: 255 - mask}),
    ("mask the other way round", "nine.whole", contextlib.nullcontext, {"mask_of": lambda mask: 255 - mask}),
    ("nothing put back between steps", "sd.whole", contextlib.nullcontext, {"mask_of": lambda mask: mask * 0 + 255}),
    ("masked picture's sample not drawn", "sd.euler_ancestral", undrawn, {}),
    ("whole picture for the masked one", "nine.whole", unmasked, {}),
    ("one step more", "xl.ddim", contextlib.nullcontext, {"strength_of": lambda strength: strength + 0.2}),
]


def mistakes(base):
    rows = []
    for what, name, spoil, arguments in MISTAKES:
        run = next(run for run in RUNS if run[0] == name)
        with spoil():
            got = record([run], **arguments)
        errors = {k: relative_l2(got[k], base[k]) for k in got if ".latents." in k and k in base}
        worst = max(errors, key=errors.get)
        assert errors[worst] >= mutations.MARGIN * mutations.LATENTS, (what, worst, errors[worst])
        rows.append({"mistake": what, "worst": worst, "worst_error": mutations.two(errors[worst]), "times_gate": mutations.two(errors[worst] / mutations.LATENTS)})
    return rows


def main():
    make_folder()
    tensors = record()
    write_tensors("edits.safetensors", tensors)
    keys = ("name", "model", "pipeline", "sampler", "strength")
    write_json("edits.json", {"steps": 5, "runs": [dict(zip(keys, run)) for run in RUNS], "mutations": mistakes(tensors)})


if __name__ == "__main__":
    main()
