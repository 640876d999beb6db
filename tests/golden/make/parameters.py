"""Makes `parameters.json`: the parameters of the full-size networks, by diffusers and transformers on the meta device, without weights.

The configs are the engine's own (`host/engine/kinds/`), read by diffusers' classes. Each part of a component is kept as its
number of tensors, its number of values and a digest of its names and shapes. A convolution of one pixel and a linear layer are one.
"""

import hashlib
import json

import torch
from common import SHAPES, write_json
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

KINDS = SHAPES.parents[1] / "kinds"
NAMES = ["stable-diffusion-1", "stable-diffusion-2", "stable-diffusion-xl"]
CLASSES = {
    "unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection,
}


def build(component, config):
    cls = CLASSES[component]
    with torch.device("meta"):
        return cls(CLIPTextConfig(**config)) if component.startswith("text") else cls.from_config(config)


def part(name):
    """A block: `down_blocks.0`, or `decoder.up_blocks.1`, or `encoder.layers.7`; what is outside of them by its first word."""
    parts = name.split(".")
    for depth, word in enumerate(parts[:-1]):
        if parts[depth + 1].isdigit() and word in ("down_blocks", "up_blocks", "layers"):
            return ".".join(parts[: depth + 2])
    return parts[0]


def plain(shape):
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def table(model):
    parts = {}
    for name, parameter in sorted((name.removeprefix("text_model."), p) for name, p in model.named_parameters()):
        parts.setdefault(part(name), []).append((name, plain(tuple(parameter.shape)), parameter.numel()))
    out = {}
    for key, rows in parts.items():
        lines = "".join(f"{name} {'x'.join(map(str, shape))}\n" for name, shape, _ in rows)
        out[key] = f"{len(rows)} {sum(n for *_, n in rows)} {hashlib.sha256(lines.encode()).hexdigest()[:16]}"
    return out


def main():
    everything = {}
    for kind in NAMES:
        configs = json.loads((KINDS / f"{kind}.json").read_text())
        components = [path.split("/")[0] for path in configs if path.endswith("/config.json")]
        everything[kind] = {component: table(build(component, configs[f"{component}/config.json"])) for component in components}
    write_json("parameters.json", everything)


if __name__ == "__main__":
    main()
