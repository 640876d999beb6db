"""Makes `layouts/`: transformers in their makers' layout with a few numbers in every tensor, and what diffusers makes of them.

The conversions are diffusers' own. Some have sizes of the full models written into them, so rows are as many as there are
and columns are few. Values are small whole numbers, kept in f16: what counts is which of them comes out where.
"""

import zlib

import torch
from common import OUT, write_tensors
from diffusers.loaders import single_file_utils as reference


def numbers(key, *shape):
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(key.encode()))
    return torch.randint(-99, 100, shape, generator=generator).half()


def linear(out, key, rows, bias=True, columns=2):
    out[f"{key}.weight"] = numbers(f"{key}.weight", rows, columns)
    if bias:
        out[f"{key}.bias"] = numbers(f"{key}.bias", rows)


def norms(out, key):
    for kind in ("query_norm", "key_norm"):
        out[f"{key}.{kind}.scale"] = numbers(f"{key}.{kind}", 3)


def flux(guided):
    out = {}
    for name in ("time_in", "vector_in") + (("guidance_in",) if guided else ()):
        linear(out, f"{name}.in_layer", 5)
        linear(out, f"{name}.out_layer", 4)
    linear(out, "img_in", 4)
    linear(out, "txt_in", 3)
    for side in ("img", "txt"):
        for block in range(2):
            at = f"double_blocks.{block}.{side}"
            linear(out, f"{at}_mod.lin", 6)
            linear(out, f"{at}_attn.qkv", 9)
            norms(out, f"{at}_attn.norm")
            linear(out, f"{at}_attn.proj", 3)
            linear(out, f"{at}_mlp.0", 8)
            linear(out, f"{at}_mlp.2", 5)
    linear(out, "single_blocks.0.linear1", 7 * 3072, columns=1)
    linear(out, "single_blocks.0.linear2", 4)
    norms(out, "single_blocks.0.norm")
    linear(out, "single_blocks.0.modulation.lin", 3)
    linear(out, "final_layer.linear", 2)
    linear(out, "final_layer.adaLN_modulation.1", 6)
    return out, reference.convert_flux_transformer_checkpoint_to_diffusers


def flux2():
    out = {}
    for name, rows in (("img_in", 4), ("txt_in", 3), ("time_in.in_layer", 5), ("time_in.out_layer", 4), ("final_layer.linear", 3), ("final_layer.adaLN_modulation.1", 6),
                       ("double_stream_modulation_img.lin", 6), ("double_stream_modulation_txt.lin", 7), ("single_stream_modulation.lin", 3)):
        linear(out, name, rows, bias=False)
    for side in ("img", "txt"):
        for block in range(2):
            at = f"double_blocks.{block}.{side}"
            linear(out, f"{at}_attn.qkv", 9, bias=False)
            norms(out, f"{at}_attn.norm")
            linear(out, f"{at}_attn.proj", 3, bias=False)
            linear(out, f"{at}_mlp.0", 8, bias=False)
            linear(out, f"{at}_mlp.2", 5, bias=False)
    for block in range(3):
        linear(out, f"single_blocks.{block}.linear1", 11, bias=False)
        linear(out, f"single_blocks.{block}.linear2", 4, bias=False)
        norms(out, f"single_blocks.{block}.norm")
    return out, reference.convert_flux2_transformer_checkpoint_to_diffusers


def z_image():
    out = {}
    for part in ("layers", "noise_refiner", "context_refiner"):
        for block in range(2):
            at = f"{part}.{block}"
            linear(out, f"{at}.attention.qkv", 9, bias=False)
            linear(out, f"{at}.attention.out", 3, bias=False)
            for name in ("attention.q_norm", "attention.k_norm", "attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
                out[f"{at}.{name}.weight"] = numbers(f"{at}.{name}", 3)
            for name in ("w1", "w2", "w3"):
                linear(out, f"{at}.feed_forward.{name}", 4, bias=False)
            if part != "context_refiner":
                linear(out, f"{at}.adaLN_modulation.0", 8)
    for name in ("x_embedder", "final_layer.linear", "final_layer.adaLN_modulation.1", "t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.1"):
        linear(out, name, 4)
    out |= {"cap_embedder.0.weight": numbers("cap", 5), "norm_final.weight": numbers("norm", 3), "x_pad_token": numbers("x", 1, 3), "cap_pad_token": numbers("c", 1, 3)}
    return out, reference.convert_z_image_transformer_checkpoint_to_diffusers


def main():
    cases = {"flux-1-dev": flux(True), "flux-1-schnell": flux(False), "flux-2": flux2(), "z-image": z_image()}
    for name, (stored, convert) in cases.items():
        (OUT / "layouts" / name / "transformer").mkdir(parents=True, exist_ok=True)
        # Half of them under the prefix that files with more than one network use.
        prefix = "model.diffusion_model." if name in ("flux-1-schnell", "z-image") else ""
        write_tensors(f"layouts/{name}/transformer/model.safetensors", {prefix + key: value for key, value in stored.items()})
        write_tensors(f"layouts/{name}/want.safetensors", {key: value.float() for key, value in convert(dict(stored)).items()})


if __name__ == "__main__":
    main()
