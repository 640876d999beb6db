"""Makes `loras/`, `lora.safetensors` and `lora.json`: additions to the tiny models in the forms that trainers write them.

The matrices are random and large enough to matter. Every file is loaded by diffusers' `load_lora_weights`, alone or with
another, and the run with it is kept; `lora.json` lists the runs, and likely mistakes. Needs PEFT.
"""

import contextlib
import json
import shutil
import zlib

import models
import mutations
import numpy as np
import sdxl
from common import OUT, relative_l2, torch, write_json, write_tensors
from diffusers.loaders import lora_pipeline
from safetensors.torch import load_file, save_file

FOLDER = OUT / "loras"
RANK = 3


def without_text_model(real):
    """This transformers has dropped a level of the names of text encoders without a projection; this diffusers gives it the old ones."""

    def load(state_dict, network_alphas, text_encoder, prefix=None, **rest):
        if not hasattr(text_encoder, "text_model"):
            short = lambda named: named and {k.replace(f"{prefix}.text_model.", f"{prefix}."): v for k, v in named.items()}
            state_dict, network_alphas = short(state_dict), short(network_alphas)
        return real(state_dict, network_alphas, text_encoder, prefix=prefix, **rest)

    return load


lora_pipeline._load_lora_into_text_encoder = without_text_model(lora_pipeline._load_lora_into_text_encoder)


def module_shapes(pipe, component, wanted):
    model = getattr(pipe, component)
    return {name: module.weight.shape for name, module in model.named_modules() if hasattr(module, "weight") and module.weight.dim() >= 2 and wanted(name)}


def pair(key, shape, rank=RANK):
    """Narrow and wide matrix for a weight; a convolution's window belongs to the narrow one. Larger ones would make much of f32's own rounding."""
    draw = torch.Generator("cpu").manual_seed(zlib.crc32(key.encode()))
    out, fan_in = shape[0], int(np.prod(shape[1:]))
    down = torch.randn((rank, *shape[1:]), generator=draw) * (1.2 / fan_in**0.5)
    up = torch.randn((out, rank, *([1] * (len(shape) - 2))), generator=draw) * (0.2 / rank**0.5)
    return down.half(), up.half()


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def attentions(name):
    return name.endswith(ATTENTION)


def everything(name):
    return name.endswith((*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"))


def text_layers(name):
    return name.endswith(("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))


def ldm(name):
    """The name of a module of the denoising network in Stable Diffusion's own checkpoints, for levels of one residual part."""
    way, *rest = name.split(".")
    if way == "mid_block":
        part, index, *rest = rest
        return ".".join(["middle_block", "1" if part == "attentions" else str(2 * int(index)), *rest])
    level, part, index, *rest = rest
    inner = {"resnets": "0", "attentions": "1"}[part]
    block = 1 + 2 * int(level) + int(index) if way == "down_blocks" else 2 * int(level) + int(index)
    return ".".join(["input_blocks" if way == "down_blocks" else "output_blocks", str(block), inner, *rest])


def kohya(parts, alpha):
    """`parts`: (prefix, shapes, how a name is written)."""
    out = {}
    for prefix, shapes, written in parts:
        for name, shape in shapes.items():
            stem = f"{prefix}_{written(name).replace('.', '_')}"
            out[f"{stem}.lora_down.weight"], out[f"{stem}.lora_up.weight"] = pair(stem, shape)
            out[f"{stem}.alpha"] = torch.tensor(alpha)
    return out


def make_files():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    sd, xl = models.load("tiny-sd"), sdxl.load()
    under = lambda name: name if name.startswith("text_model.") else f"text_model.{name}"
    files = {}
    files["sd-kohya"] = kohya([
        ("lora_unet", module_shapes(sd, "unet", everything), str), ("lora_te", module_shapes(sd, "text_encoder", text_layers), under),
    ], 1.5), None
    dotted = {}
    for component, wanted in (("unet", attentions), ("text_encoder", text_layers)):
        for name, shape in module_shapes(sd, component, wanted).items():
            stem = f"{component}.{name}"
            dotted[f"{stem}.lora_A.weight"], dotted[f"{stem}.lora_B.weight"] = pair(f"peft.{stem}", shape, rank=2)
    said = {f"{component}.{key}": value for component in ("unet", "text_encoder") for key, value in (("r", 2), ("lora_alpha", 5.0), ("target_modules", list({name.rsplit(".lora_", 1)[0].split(".", 1)[1] for name in dotted if name.startswith(component + ".")})))}
    # One entry: several would be written in another order each time.
    files["sd-peft"] = dotted, {"lora_adapter_metadata": json.dumps(said, sort_keys=True)}
    old = {}
    for name, shape in module_shapes(sd, "unet", attentions).items():
        attention, part = name.removesuffix(".0").rsplit(".", 1)
        stem = f"unet.{attention}.processor.{part}_lora"
        old[f"{stem}.down.weight"], old[f"{stem}.up.weight"] = pair(f"old.{stem}", shape)
    files["sd-old"] = old, None
    files["xl-kohya"] = kohya([
        ("lora_unet", module_shapes(xl, "unet", attentions), ldm), ("lora_te1", module_shapes(xl, "text_encoder", text_layers), under),
        ("lora_te2", module_shapes(xl, "text_encoder_2", text_layers), under),
    ], 2.0), None
    for name, (tensors, metadata) in files.items():
        # Sets have no order, and these bytes must.
        if metadata and "lora_adapter_metadata" in metadata:
            said = json.loads(metadata["lora_adapter_metadata"])
            metadata["lora_adapter_metadata"] = json.dumps({k: sorted(v) if isinstance(v, list) else v for k, v in said.items()}, sort_keys=True)
        save_file({k: tensors[k].contiguous() for k in sorted(tensors)}, FOLDER / f"{name}.safetensors", metadata=metadata)
        (FOLDER / f"{name}.safetensors").chmod(0o644)


# (name, model, [(file, weight), …])
RUNS = [
    ("kohya", "tiny-sd", [("sd-kohya", 1.0)]),
    ("weighted", "tiny-sd", [("sd-kohya", 0.35)]),
    ("peft", "tiny-sd", [("sd-peft", 0.8)]),
    ("old", "tiny-sd", [("sd-old", 1.0)]),
    ("two", "tiny-sd", [("sd-kohya", 0.5), ("sd-peft", -0.6)]),
    ("xl", "tiny-sdxl", [("xl-kohya", 0.9)]),
]


def sample(run, tensors, change=lambda tensors: tensors, weight_of=lambda weight: weight):
    name, model, loras = run
    pipe = sdxl.load() if model == "tiny-sdxl" else models.load(model)
    for file, _ in loras:
        path = FOLDER / f"{file}.safetensors"
        spoiled = change(load_file(path))
        pipe.load_lora_weights(path if spoiled is None else spoiled, adapter_name=file)
    pipe.set_adapters([file for file, _ in loras], [weight_of(weight) for _, weight in loras])
    settings = models.RUNS[model]
    pipe.scheduler = models.schedulers("epsilon")["ddim"]
    latents = []

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        return kwargs

    image = pipe(
        prompt=settings["prompt"], negative_prompt=settings["negative_prompt"], height=settings["height"], width=settings["width"], eta=0.0,
        num_inference_steps=3, guidance_scale=settings["guidance_scale"], generator=models.generator(), callback_on_step_end=keep, output_type="np",
    ).images
    for i, value in enumerate(latents):
        tensors[f"{name}.latents.step{i}"] = value
    tensors[f"{name}.image.u8"] = torch.from_numpy(np.array(pipe.numpy_to_pil(image)[0]))


@torch.no_grad()
def record(runs=RUNS, **rest):
    tensors = {}
    for run in runs:
        sample(run, tensors, **{"change": lambda tensors: None, **rest})
    return tensors


def without(part):
    return lambda tensors: {k: v for k, v in tensors.items() if part not in k}


MISTAKES = [
    ("alpha ignored", "kohya", {"change": without(".alpha")}),
    ("alpha of the header ignored", "peft", {"change": lambda tensors: tensors}),
    ("weight ignored", "weighted", {"weight_of": lambda weight: 1.0}),
    ("text encoder left out", "kohya", {"change": without("lora_te_")}),
    ("convolutions left out", "kohya", {"change": lambda t: {k: v for k, v in t.items() if "conv" not in k}}),
    ("second text encoder left out", "xl", {"change": without("lora_te2_")}),
]


def mistakes(base):
    rows = []
    for what, name, arguments in MISTAKES:
        got = record([next(run for run in RUNS if run[0] == name)], **arguments)
        errors = {k: relative_l2(got[k], base[k]) for k in got if ".latents." in k}
        worst = max(errors, key=errors.get)
        assert errors[worst] >= mutations.MARGIN * mutations.LATENTS, (what, worst, errors[worst])
        rows.append({"mistake": what, "worst": worst, "worst_error": mutations.two(errors[worst]), "times_gate": mutations.two(errors[worst] / mutations.LATENTS)})
    return rows


def main():
    make_files()
    tensors = record()
    write_tensors("lora.safetensors", tensors)
    runs = [{"name": name, "model": model, "loras": [{"name": file, "weight": weight} for file, weight in loras]} for name, model, loras in RUNS]
    write_json("lora.json", {"steps": 3, "runs": runs, "mutations": mistakes(tensors)})


if __name__ == "__main__":
    main()
