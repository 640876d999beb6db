"""What every script here shares: where things lie, how torch is held still, and how tensors are recorded and written.

Importing this module fixes the arithmetic: one thread, deterministic kernels, no network. Nothing here names a path of
a particular machine; everything is found from this file's own place in the repository.
"""

import json
import os
import pathlib
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
warnings.filterwarnings("ignore")

import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

import diffusers
import transformers

diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
diffusers.utils.logging.disable_progress_bar()

HERE = pathlib.Path(__file__).resolve().parent
SHAPES = HERE.parents[2] / "host" / "engine" / "models" / "shapes"
# `make.py --check` writes a second set elsewhere and compares the bytes.
OUT = pathlib.Path(os.environ.get("GOLDEN_OUT", HERE.parent))


def write_json(name, value):
    """Writes `value` with one line per row of the outermost lists, so that a change shows as a readable diff."""

    def lines(node, depth):
        pad = " " * depth
        if isinstance(node, dict) and depth < 2:
            body = ",\n".join(f"{pad} {json.dumps(k)}: {lines(v, depth + 1)}" for k, v in node.items())
            return "{\n" + body + "\n" + pad + "}"
        if isinstance(node, list) and depth < 2 and node and isinstance(node[0], (dict, list)):
            return "[\n" + ",\n".join(f"{pad} {lines(v, 9)}" for v in node) + "\n" + pad + "]"
        return json.dumps(node, ensure_ascii=False, separators=(",", ":"))

    (OUT / name).write_text(lines(value, 0) + "\n", encoding="utf-8")


def write_tensors(name, tensors):
    """Writes tensors as they are, sorted by key; the format keeps no time and no machine, so equal input is equal bytes."""
    save_file({k: tensors[k].detach().contiguous().clone() for k in sorted(tensors)}, OUT / name)
    (OUT / name).chmod(0o644)


def relative_l2(got, want):
    got, want = got.double().flatten(), want.double().flatten()
    return ((got - want).norm() / want.norm().clamp_min(1e-300)).item()


class Tap:
    """Records the first output of chosen sub-modules, under `prefix.module.path` exactly as diffusers names them.

    A block that returns a tuple (the down blocks return their skip connections too) is recorded by its first element.
    """

    def __init__(self):
        self.tensors = {}
        self._hooks = []

    def watch(self, prefix, module, wanted):
        for name, child in module.named_modules():
            if name and wanted(name):
                key = f"{prefix}.{name}"
                self._hooks.append(child.register_forward_hook(lambda m, i, o, key=key: self._put(key, o)))

    def release(self):
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _put(self, key, output):
        if key in self.tensors:
            return
        output = output[0] if isinstance(output, tuple) else output
        output = getattr(output, "sample", output)
        self.tensors[key] = output.detach().clone()
