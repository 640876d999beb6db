"""Makes every golden file, or with `--check` makes them twice elsewhere and compares the bytes with what lies here.

    python make.py            # writes the folder above
    python make.py --check    # writes nothing here; fails where two runs, or a run and the stored files, differ
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# `models`, `mutations`, `sdxl`, `edits`, `lora` and `single` read what `tiny` and `sdxl` wrote.
# `full_size` reads only the configs in the engine.
SCRIPTS = ["schedules", "samplers", "randn", "tokens", "tiny", "models", "mutations", "sdxl", "edits", "lora", "single", "formats", "layouts", "parameters", "flux", "flux2", "z_image", "full_size", "safety", "tiles"]
MOST_BYTES = 20_000_000


def make(out):
    for script in SCRIPTS:
        subprocess.run([sys.executable, HERE / f"{script}.py"], check=True, env={**os.environ, "GOLDEN_OUT": str(out), "PYTHONDONTWRITEBYTECODE": "1"})


def files(root):
    kept = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "README.md" and "make" not in p.relative_to(root).parts)
    return {str(p.relative_to(root)): p.read_bytes() for p in kept}


def read_back(root):
    """Every tensor loads and is finite, and the whole is small enough to keep."""
    from safetensors.torch import load_file

    for path in sorted(root.rglob("*.safetensors")):
        for key, tensor in load_file(path).items():
            assert not tensor.is_floating_point() or tensor.float().isfinite().all(), (path.name, key)
    size = sum(len(data) for data in files(root).values())
    assert size < MOST_BYTES, size
    print(f"{len(files(root))} files, {size} bytes")


def main():
    if "--check" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            make(first)
            make(second)
            sets = [files(pathlib.Path(first)), files(pathlib.Path(second)), files(HERE.parent)]
            for name in sorted(set().union(*sets)):
                if any(s.get(name) != sets[0].get(name) for s in sets):
                    sys.exit(f"{name} differs: twice made {'equal' if sets[0].get(name) == sets[1].get(name) else 'unequal'}")
    else:
        make(HERE.parent)
    read_back(HERE.parent)


if __name__ == "__main__":
    main()
