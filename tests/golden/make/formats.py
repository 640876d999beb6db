"""Makes `formats/`: one tensor in every way in which weights are stored, and beside it the numbers that it stands for.

Plain types and eight-bit floats are widened by PyTorch, blocks by the reference reader of their format. All are exact: every
code is there once (not-a-number excepted), and blocks are filled with random bits rather than rounded from something.
"""

import numpy as np
import gguf
import torch
from common import OUT, write_json, write_tensors
from gguf.quants import dequantize
from safetensors.torch import save_file

BLOCKS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
ROWS, WIDTH = 3, 512


def plain():
    """Tensors in one safetensors file, and what they stand for."""
    generator = torch.Generator("cpu").manual_seed(3)
    values = torch.randn((6, 10), generator=generator)
    codes = torch.arange(256, dtype=torch.uint8)
    e4m3 = codes[(codes & 0x7F) != 0x7F].view(torch.float8_e4m3fn).reshape(2, 127)
    e5m2 = codes[(codes & 0x7C) != 0x7C].view(torch.float8_e5m2).reshape(8, 31)
    stored, want = {}, {}
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        stored[f"{name}.weight"] = values.to(dtype)
        want[f"{name}.weight"] = values.to(dtype).float()
    for name, value in (("e4m3", e4m3), ("e5m2", e5m2)):
        stored[f"{name}.weight"], want[f"{name}.weight"] = value, value.float()
    # One scale for the tensor, by either name; one for each row; a scale in bf16.
    one, rows = torch.tensor(0.37), torch.rand((2, 1), generator=generator) + 0.1
    for name, key, scale in (("one", "scale_weight", one), ("other", "weight_scale", one[None]), ("rows", "weight_scale", rows), ("half", "weight_scale", one.bfloat16())):
        stored[f"{name}.weight"], stored[f"{name}.{key}"] = e4m3.clone(), scale
        want[f"{name}.weight"] = e4m3.float() * scale.float()
    # Scales of wider types beside it are of no business.
    stored["f32.scale_weight"] = torch.tensor(3.0)
    # Whether a file is fp8 at all, and scales for what goes in.
    stored["scaled_fp8"], stored["one.scale_input"] = torch.zeros(2).to(torch.float8_e4m3fn), torch.tensor(1.0)
    return stored, want


def blocks():
    """A GGUF file with every kind of block, whose bits are random and whose scales are tame."""
    random = np.random.default_rng(4)
    writer = gguf.GGUFWriter(OUT / "formats/blocks/model.gguf", "test")
    writer.add_string("general.name", "every kind of block")
    writer.add_array("general.tags", ["one", "two"])
    want = {}
    for name in BLOCKS:
        kind = gguf.GGMLQuantizationType[name]
        size, length = gguf.GGML_QUANT_SIZES[kind]
        count = ROWS * WIDTH // size
        raw = random.integers(0, 256, (count, length), dtype=np.uint8)
        # Where the half-precision scales lie in a block.
        halves = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}[name]
        for at in halves:
            scale = (random.uniform(0.001, 0.02, count) * random.choice([-1, 1], count)).astype(np.float16)
            raw[:, at : at + 2] = scale[:, None].view(np.uint8)
        raw = raw.reshape(ROWS, WIDTH // size * length)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=kind)
        want[f"{name}.weight"] = torch.from_numpy(dequantize(raw, kind).astype(np.float32))
    halves = random.standard_normal((ROWS, 7)).astype(np.float32)
    writer.add_tensor("f32.weight", halves)
    writer.add_tensor("f16.weight", halves.astype(np.float16))
    bf16 = torch.from_numpy(halves).bfloat16()
    writer.add_tensor("bf16.weight", bf16.view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
    want |= {"f32.weight": torch.from_numpy(halves), "f16.weight": torch.from_numpy(halves.astype(np.float16)).float(), "bf16.weight": bf16.float()}
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return want


def sharded():
    """A component in two files, and the index that names them."""
    parts = [{"a.weight": torch.arange(6.0).reshape(2, 3)}, {"b.weight": torch.arange(4.0).reshape(4, 1).half()}]
    index = {}
    for number, part in enumerate(parts, 1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file(part, OUT / "formats/sharded" / name)
        (OUT / "formats/sharded" / name).chmod(0o644)
        index |= dict.fromkeys(part, name)
    write_json("formats/sharded/model.safetensors.index.json", {"metadata": {"total_size": 32}, "weight_map": index})
    return {key: value.float() for part in parts for key, value in part.items()}


def main():
    for folder in ("plain", "blocks", "sharded"):
        (OUT / "formats" / folder).mkdir(parents=True, exist_ok=True)
    stored, plain_want = plain()
    write_tensors("formats/plain/model.safetensors", stored)
    want = {"plain": plain_want, "blocks": blocks(), "sharded": sharded()}
    write_tensors("formats/want.safetensors", {f"{folder}/{key}": value for folder, part in want.items() for key, value in part.items()})


if __name__ == "__main__":
    main()
