"""Makes `samplers.json`: traces of the solvers that `schedules.py` does not have, in rows of the same shape.

The model and the noise are the waves of `schedules.py`. A row that has `first` is a run from a given picture: `noised` is what
`add_noise` (or `scale_noise`) makes of the picture `start` with `noise(-1)`, and the steps before `first` are left out.

`double_gap` is how far the same diffusers code lies from this when its tables are f64 (`as_double`).
"""

import sys

import diffusers
import numpy as np

from common import torch, write_json
from schedules import STABLE_DIFFUSION, digits, f32, model_output, noise, start

FLOW = {"num_train_timesteps": 1000}
DYNAMIC = {**FLOW, "use_dynamic_shifting": True, "shift": 3.0}


def even(steps):
    """The levels that the pipelines of flow models give."""
    return np.linspace(1.0, 1 / steps, steps).tolist()


def flow_rows():
    """Yields (name, class, config, steps, more)."""
    flow = "FlowMatchEulerDiscreteScheduler"
    for steps in (1, 2, 7, 28):
        yield f"flow-plain-{steps}", flow, {**FLOW, "shift": 1.0}, steps, {"levels": even(steps)}
        yield f"flow-shift-3-{steps}", flow, {**FLOW, "shift": 3.0}, steps, {}
        yield f"flow-shift-3-given-{steps}", flow, {**FLOW, "shift": 3.0}, steps, {"levels": even(steps)}
        yield f"flow-dynamic-{steps}", flow, DYNAMIC, steps, {"levels": even(steps), "mu": 1.15}
    yield "flow-dynamic-own-7", flow, DYNAMIC, 7, {"mu": 0.63}
    yield "flow-dynamic-linear-7", flow, {**DYNAMIC, "time_shift_type": "linear"}, 7, {"mu": 2.29118, "levels": even(7)}
    yield "flow-klein-4", flow, DYNAMIC, 4, {"mu": 2.29118, "levels": even(4)}
    yield "flow-terminal-7", flow, {**DYNAMIC, "shift_terminal": 0.02}, 7, {"mu": 0.9, "levels": even(7)}
    yield "flow-terminal-own-7", flow, {**FLOW, "shift": 2.0, "shift_terminal": 0.1}, 7, {}
    for curve in ("karras", "exponential", "beta"):
        yield f"flow-{curve}-7", flow, {**FLOW, "shift": 3.0, f"use_{curve}_sigmas": True}, 7, {"levels": even(7)}
    yield "flow-stochastic-7", flow, {**FLOW, "shift": 3.0, "stochastic_sampling": True}, 7, {"levels": even(7)}
    for strength in (0.3, 0.5, 1.0):
        yield f"flow-from-{strength}", flow, {**FLOW, "shift": 3.0}, 5, {"levels": even(5), "strength": strength}


def rows():
    yield from flow_rows()


def make(name, kind, config, steps, more):
    scheduler = getattr(diffusers, kind)(**config)
    extra = {"sigmas" if key == "levels" else key: more[key] for key in ("levels", "mu") if key in more}
    scheduler.set_timesteps(steps, **extra)
    return scheduler


def as_double(scheduler):
    """Turns every table of the scheduler into f64, and whatever it casts to f32 stays what it is."""
    for key, value in list(vars(scheduler).items()):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(scheduler, key, value.double())
    return scheduler


def first_of(kind, scheduler, steps, strength):
    """The step at which diffusers' pipelines begin."""
    if kind.startswith("FlowMatch"):
        return int(max(steps - min(steps * strength, steps), 0))
    return max(steps - min(int(steps * strength), steps), 0) * scheduler.order


def walk(scheduler, kind, first, given, sample):
    """The inputs and samples of all steps from `first` on."""
    module = sys.modules[type(scheduler).__module__]
    inputs, samples = [], []
    scale = getattr(scheduler, "scale_model_input", lambda sample, t: sample)
    for i, t in list(enumerate(scheduler.timesteps))[first:]:
        module.randn_tensor = lambda *a, i=i, **k: noise(i)
        inputs.append(scale(sample, t))
        sample = scheduler.step(model_output(i), t, sample).prev_sample
        samples.append(sample)
    return inputs, samples


def run(name, kind, config, steps, more):
    scheduler = make(name, kind, config, steps, more)
    whole = {k: v for k, v in scheduler.config.items() if k != "_use_default_values"}
    row = {"name": name, "kind": kind, "config": {"_class_name": kind, **whole}, "steps": steps, **more}
    row["timesteps"] = f32(scheduler.timesteps)
    row["init_noise_sigma"] = float(getattr(scheduler, "init_noise_sigma", 1.0))
    first, given = 0, start()
    if "strength" in more:
        first = first_of(kind, scheduler, steps, more["strength"])
        row["first"] = first
        scheduler.set_begin_index(first) if hasattr(scheduler, "set_begin_index") else None
        add = scheduler.scale_noise if kind.startswith("FlowMatch") else scheduler.add_noise
        if kind.startswith("FlowMatch"):
            sample = add(given, scheduler.timesteps[first : first + 1], noise(-1))
        else:
            sample = add(given, noise(-1), scheduler.timesteps[first : first + 1])
        row["picture"], row["noised"] = digits(given), digits(sample)
    else:
        sample = given * row["init_noise_sigma"]
    row["start"] = digits(sample)
    inputs, samples = walk(scheduler, kind, first, given, sample)
    double = as_double(make(name, kind, config, steps, more))
    if "strength" in more and hasattr(double, "set_begin_index"):
        double.set_begin_index(first)
    _, exact = walk(double, kind, first, given, sample)
    gap = max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in zip(samples, exact))
    row["inputs"], row["samples"] = [digits(x) for x in inputs], [digits(x) for x in samples]
    row["double_gap"] = float(f"{gap:.2g}")
    return row


def main():
    write_json("samplers.json", {"rows": [run(*row) for row in rows()]})


if __name__ == "__main__":
    main()
