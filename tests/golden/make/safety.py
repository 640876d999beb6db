"""Makes `tiny-safety/` and `safety.safetensors`: a small safety checker, what it sees in some pictures, and what it blocks.

diffusers' `StableDiffusionSafetyChecker` with random weights. The thresholds are put between the cosines of the pictures, so
that each picture gets another verdict, and the extra care of the special concepts decides one of them.
"""

import json

import numpy as np
import torch
from common import OUT, write_json, write_tensors
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

SIZES = [(40, 56), (32, 32), (100, 33), (47, 24), (31, 90)]


def checker():
    config = CLIPConfig(vision_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8, hidden_act="quick_gelu"), projection_dim=20)
    torch.manual_seed(5)
    model = StableDiffusionSafetyChecker(config).eval()
    generator = torch.Generator("cpu").manual_seed(6)
    for name, value in model.named_parameters():
        if value.ndim > 1:
            gain = 1.8 if "q_proj" in name or "k_proj" in name else 1.0
            fan = value[0].numel() if "position_embedding" not in name else 16
            new = torch.randn(value.shape, generator=generator) * gain / fan**0.5
        else:
            new = torch.randn(value.shape, generator=generator) * 0.2 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        value.data = new.half().float()
    return model


def pictures():
    """Soft blobs of colour and some noise: the resizing has to get smooth and rough parts right."""
    random = np.random.default_rng(8)
    for width, height in SIZES:
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / random.uniform(2, 9) + random.uniform(0, 6)) * np.cos(y / random.uniform(2, 9)) for _ in range(3)]
        noise = random.integers(-60, 61, (height, width, 3))
        yield Image.fromarray((np.stack(waves, -1) * 120 + 128 + noise).clip(0, 255).astype(np.uint8))


@torch.no_grad()
def main():
    model, processor = checker(), CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    prepared = [processor(picture, return_tensors="pt").pixel_values for picture in pictures()]
    seen = model.visual_projection(model.vision_model(torch.cat(prepared))[1])
    # Each of these concepts is what sets a picture apart from the others.
    apart = seen - seen.mean(0)
    for table, concept, picture in ((model.concept_embeds, 4, 0), (model.concept_embeds, 9, 1), (model.special_care_embeds, 1, 2), (model.special_care_embeds, 0, 3), (model.concept_embeds, 11, 3)):
        table.data[concept] = (apart[picture] / apart[picture].norm() + 0.1 * table[concept] / table[concept].norm()).half().float()
    special, plain = cosine_distance(seen, model.special_care_embeds), cosine_distance(seen, model.concept_embeds)
    # Nothing is seen but what follows: pictures 0 and 1 show a concept each, picture 2 a special one, which alone is no reason
    # to block, and picture 3 another special one, whose care adds what a concept lacks.
    concepts, specials = plain.max(0).values + 0.2, special.max(0).values + 0.2
    model.concept_embeds_weights.data, model.special_care_embeds_weights.data = concepts, specials

    def between(table, concept, picture):
        """A threshold that only this picture passes."""
        others = torch.cat([table[:picture, concept], table[picture + 1 :, concept]]).max()
        assert table[picture, concept] - others > 0.02, (concept, picture)
        return (table[picture, concept] + others) / 2

    concepts[4], concepts[9] = between(plain, 4, 0), between(plain, 9, 1)
    specials[1], specials[0] = between(special, 1, 2), between(special, 0, 3)
    concepts[11] = plain[3, 11] + 0.005
    model = model.half().float()
    tensors = {}
    verdicts = []
    hidden = []
    hooks = [layer.register_forward_hook(lambda m, a, o: hidden.append(o if torch.is_tensor(o) else o[0])) for layer in model.vision_model.encoder.layers]
    for index, (picture, pixels) in enumerate(zip(pictures(), prepared)):
        hidden.clear()
        tensors[f"{index}.picture.u8"] = torch.from_numpy(np.array(picture))
        tensors[f"{index}.prepared"] = pixels[0].permute(1, 2, 0)
        seen = model.visual_projection(model.vision_model(pixels)[1])
        tensors[f"{index}.safety.direction"] = seen
        for layer, value in enumerate(hidden, 1):
            tensors[f"{index}.safety.hidden.{layer}"] = value
        black, blocked = model(pixels, [np.ones((2, 2, 3))])
        special, plain = cosine_distance(seen, model.special_care_embeds)[0].numpy(), cosine_distance(seen, model.concept_embeds)[0].numpy()
        cares = [i for i in range(3) if round(special[i] - model.special_care_embeds_weights[i].item(), 3) > 0]
        bad = [i for i in range(17) if round(plain[i] - model.concept_embeds_weights[i].item() + (0.01 if cares else 0.0), 3) > 0]
        assert bool(bad) == blocked[0] and (black[0] == 0).all() == blocked[0]
        verdicts.append({"concepts": bad, "special": cares})
    for hook in hooks:
        hook.remove()
    assert len({json.dumps(verdict) for verdict in verdicts}) >= 4 and any(v["special"] and not v["concepts"] for v in verdicts), verdicts
    folder = OUT / "tiny-safety"
    model.half().save_pretrained(folder / "safety_checker")
    processor.save_pretrained(folder / "feature_extractor")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    write_tensors("safety.safetensors", tensors)
    write_json("safety.json", verdicts)


if __name__ == "__main__":
    main()
