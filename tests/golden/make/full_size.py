"""Makes `full_size.json`: every parameter of the published FLUX.1, FLUX.2 [klein] and Z-Image by name and shape, from the meta device.

The configs are those that stand in the engine for models in one file (`kinds/`), so the two are held against each other. No weights
are made or read.
"""

import copy
import json

from common import HERE, torch, write_json
from diffusers import AutoencoderKL, AutoencoderKLFlux2, Flux2Transformer2DModel, FluxTransformer2DModel, ZImageTransformer2DModel
from single import pack
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

KINDS = HERE.parents[2] / "host" / "engine" / "kinds"
CLASSES = {c.__name__: c for c in (AutoencoderKL, AutoencoderKLFlux2, Flux2Transformer2DModel, FluxTransformer2DModel, ZImageTransformer2DModel)}
TEXTS = {"qwen3": (Qwen3Model, Qwen3Config), "t5": (T5EncoderModel, T5Config), "clip_text_model": (CLIPTextModel, CLIPTextConfig)}
# (kind, what differs from its configs)
MODELS = {
    "flux-1-dev": ("flux-1-dev", {}),
    "flux-2-klein-4b": ("flux-2-klein-4b", {}),
    "flux-2-klein-9b": ("flux-2-klein-4b", {
        "transformer/config.json": {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288},
        "text_encoder/config.json": {"hidden_size": 4096, "intermediate_size": 12288},
    }),
    "z-image-turbo": ("z-image-turbo", {}),
}


def parameters(file, config):
    folder = file.removesuffix("/config.json")
    with torch.device("meta"):
        if "_class_name" in config:
            kind = CLASSES[config["_class_name"]]
            model = kind.from_config(config)
        else:
            kind, settings = TEXTS[config["model_type"]]
            model = kind(settings(**config))
    kept = {k: v for k, v in model.state_dict().items() if not k.endswith(("num_batches_tracked", "position_ids", "encoder.embed_tokens.weight"))}
    return {f"{folder}.{k}": v for k, v in kept.items()}


def main():
    models = {}
    for name, (kind, changes) in MODELS.items():
        files = copy.deepcopy(json.loads((KINDS / f"{kind}.json").read_text()))
        for file, values in changes.items():
            files[file].update(values)
        tensors = {}
        for file, config in files.items():
            if file.endswith("/config.json"):
                tensors.update(parameters(file, config))
        counts = {}
        for key, tensor in tensors.items():
            counts[key.split(".")[0]] = counts.get(key.split(".")[0], 0) + tensor.numel()
        models[name] = {"kind": kind, "changes": changes, "counts": counts, "parameters": pack(tensors)}
    write_json("full_size.json", models)


if __name__ == "__main__":
    main()
