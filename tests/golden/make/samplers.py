"""Makes `samplers.json`: traces of the solvers that `schedules.py` does not have, in rows of the same shape.

The model and the noise are the waves of `schedules.py`. A row that has `first` is a run from a given picture: `noised` is what
`add_noise` (or `scale_noise`) makes of the picture `start` with `noise(-1)`, and the steps before `first` are left out.

`double_gap` is how far the same diffusers code lies from this when its tables are f64 (`as_double`).
"""

import sys

import diffusers
import numpy as np

from common import torch, write_json
import schedules
from schedules import STABLE_DIFFUSION, f32

FLOW = {"num_train_timesteps": 1000}
DYNAMIC = {**FLOW, "use_dynamic_shifting": True, "shift": 3.0}


def batch(wave):
    """The waves as a batch of one with channels, which some of the classes insist on."""
    return lambda *i: wave(*i)[None]


model_output, noise, start = batch(schedules.model_output), batch(schedules.noise), batch(schedules.start)


def digits(values):
    return schedules.digits(values[0])


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


def diffusion_rows():
    """Every class at its spacings and curves, and what its config can say."""
    sd = STABLE_DIFFUSION
    lead, trail = {**sd, "timestep_spacing": "leading"}, {**sd, "timestep_spacing": "trailing"}
    cosine = {**sd, "beta_schedule": "squaredcos_cap_v2"}
    v = {"prediction_type": "v_prediction"}

    for name, kind, steps, extra in (
        ("ddpm", "DDPMScheduler", (1, 7), {"clip_sample": False}),
        ("pndm", "PNDMScheduler", (1, 2, 7, 20), {"skip_prk_steps": True}),
        ("heun", "HeunDiscreteScheduler", (1, 2, 7), {}),
        ("lms", "LMSDiscreteScheduler", (1, 7), {}),
        ("kdpm2", "KDPM2DiscreteScheduler", (1, 7), {}),
        ("kdpm2a", "KDPM2AncestralDiscreteScheduler", (1, 7), {}),
        ("2m", "DPMSolverMultistepScheduler", (1, 2, 7, 20), {}),
        ("2m-sde", "DPMSolverMultistepScheduler", (1, 7, 20), {"algorithm_type": "sde-dpmsolver++"}),
        ("3m", "DPMSolverMultistepScheduler", (1, 2, 3, 7, 20), {"solver_order": 3}),
        ("3m-sde", "DPMSolverMultistepScheduler", (7,), {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}),
        ("unipc", "UniPCMultistepScheduler", (1, 2, 7, 20), {}),
    ):
        for count in steps:
            yield f"{name}-leading-{count}", kind, {**lead, **extra}, count, {}
        yield f"{name}-linspace-7", kind, {**sd, **extra, "timestep_spacing": "linspace"}, 7, {}
        yield f"{name}-trailing-7", kind, {**trail, **extra}, 7, {}
        yield f"{name}-v-7", kind, {**trail, **extra, **v}, 7, {}
        yield f"{name}-from-0.6", kind, {**lead, **extra}, 7, {"strength": 0.6}
        if kind not in ("DDPMScheduler", "PNDMScheduler"):
            for curve in ("karras", "exponential", "beta"):
                yield f"{name}-{curve}-7", kind, {**lead, **extra, f"use_{curve}_sigmas": True}, 7, {}
    for count in (1, 2, 7, 8):
        yield f"2s-{count}", "DPMSolverSinglestepScheduler", without(sd, "steps_offset"), count, {}
    for curve in ("karras", "exponential", "beta"):
        yield f"2s-{curve}-7", "DPMSolverSinglestepScheduler", {**without(sd, "steps_offset"), f"use_{curve}_sigmas": True}, 7, {}
    single = {**without(sd, "steps_offset"), "final_sigmas_type": "sigma_min"}
    yield "2s-sigma-min-8", "DPMSolverSinglestepScheduler", single, 8, {}
    yield "2s-sigma-min-lower-8", "DPMSolverSinglestepScheduler", {**single, "lower_order_final": True}, 8, {}
    yield "2s-heun-v-7", "DPMSolverSinglestepScheduler", {**without(sd, "steps_offset"), **v, "solver_type": "heun"}, 7, {}
    yield "2s-from-0.6", "DPMSolverSinglestepScheduler", without(sd, "steps_offset"), 7, {"strength": 0.6}
    for kind in ("LCMScheduler", "TCDScheduler"):
        name = kind[:3].lower()
        for count in (1, 4, 7, 50):
            yield f"{name}-{count}", kind, sd, count, {}
        yield f"{name}-v-4", kind, {**sd, **v}, 4, {}
        yield f"{name}-original-100", kind, {**sd, "original_inference_steps": 100, "timestep_scaling": 7.5}, 6, {}
        yield f"{name}-from-0.6", kind, sd, 5, {"strength": 0.6}
    for eta in (0.3, 1.0):
        yield f"tcd-eta-{eta}", "TCDScheduler", sd, 4, {"eta": eta}
    yield "tcd-eta-v", "TCDScheduler", {**sd, **v}, 4, {"eta": 0.3}
    yield "tcd-zero-snr", "TCDScheduler", {**sd, **v, "rescale_betas_zero_snr": True}, 4, {"eta": 0.3}

    multistep = "DPMSolverMultistepScheduler"
    stochastic = {"algorithm_type": "sde-dpmsolver++"}
    for name, extra in (("2m", {}), ("2m-sde", stochastic)):
        yield f"{name}-heun-7", multistep, {**lead, **extra, "solver_type": "heun"}, 7, {}
        yield f"{name}-sigma-min-7", multistep, {**lead, **extra, "final_sigmas_type": "sigma_min"}, 7, {}
        yield f"{name}-sigma-min-16", multistep, {**lead, **extra, "final_sigmas_type": "sigma_min"}, 16, {}
        yield f"{name}-zero-snr-7", multistep, {**trail, **v, **extra, "rescale_betas_zero_snr": True}, 7, {}
    yield "2m-euler-at-final-16", multistep, {**lead, "final_sigmas_type": "sigma_min", "euler_at_final": True}, 16, {}
    yield "2m-no-lower-7", multistep, {**lead, "lower_order_final": False}, 7, {}
    yield "2m-cosine-karras-7", multistep, {**cosine, "use_karras_sigmas": True}, 7, {}
    yield "2m-sde-heun-named-7", multistep, {**lead, **stochastic, "solver_type": "heun"}, 7, {"sampler": "dpmpp_2m_sde_heun"}
    for count in (1, 2, 7):
        yield f"sde-leading-{count}", "DPMSolverSDEScheduler", {**lead, "noise_sampler_seed": 0}, count, {}
    yield "sde-karras-7", "DPMSolverSDEScheduler", {**lead, "noise_sampler_seed": 123456789, "use_karras_sigmas": True}, 7, {}
    yield "sde-trailing-v-7", "DPMSolverSDEScheduler", {**trail, **v, "noise_sampler_seed": 2**40 + 7}, 7, {}
    yield "sde-from-0.6", "DPMSolverSDEScheduler", {**lead, "noise_sampler_seed": 5}, 7, {"strength": 0.6}
    yield "ddpm-large-7", "DDPMScheduler", {**lead, "clip_sample": False, "variance_type": "fixed_large"}, 7, {}
    yield "ddpm-clip-7", "DDPMScheduler", lead, 7, {}
    yield "ddpm-zero-snr-7", "DDPMScheduler", {**trail, **v, "clip_sample": False, "rescale_betas_zero_snr": True}, 7, {}
    yield "pndm-alpha-one-7", "PNDMScheduler", {**lead, "skip_prk_steps": True, "set_alpha_to_one": True}, 7, {}
    yield "unipc-bh1-sigma-min-7", "UniPCMultistepScheduler", {**lead, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}, 7, {}
    for order in (1, 3):
        yield f"unipc-order-{order}", "UniPCMultistepScheduler", {**lead, "solver_order": order}, 7, {}
    yield "unipc-zero-snr-7", "UniPCMultistepScheduler", {**trail, **v, "rescale_betas_zero_snr": True}, 7, {}


def without(config, key):
    return {k: v for k, v in config.items() if k != key}


def rows():
    yield from flow_rows()
    yield from diffusion_rows()


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


def begin_at(scheduler, first):
    """Tells where a run begins, as newer pipelines do; what is not told is looked up, and found wrong where timesteps repeat."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)


def first_of(kind, scheduler, steps, strength):
    """The step at which diffusers' pipelines begin."""
    if kind.startswith("FlowMatch"):
        return int(max(steps - min(steps * strength, steps), 0))
    return max(steps - min(int(steps * strength), steps), 0) * scheduler.order


def walk(scheduler, first, sample, extra):
    """The inputs and samples of all steps from `first` on."""
    module = sys.modules[type(scheduler).__module__]
    inputs, samples = [], []
    scale = getattr(scheduler, "scale_model_input", lambda sample, t: sample)
    for i, t in list(enumerate(scheduler.timesteps))[first:]:
        module.randn_tensor = lambda *a, i=i, **k: noise(i)
        inputs.append(scale(sample, t))
        sample = scheduler.step(model_output(i).to(sample.dtype), t, sample, **extra).prev_sample
        samples.append(sample)
    return inputs, samples


def run(name, kind, config, steps, more):
    scheduler = make(name, kind, config, steps, more)
    whole = {k: v for k, v in scheduler.config.items() if k != "_use_default_values"}
    # Minus infinity is not JSON.
    whole = {k: None if v == -np.inf else v for k, v in whole.items()}
    row = {"name": name, "kind": kind, "config": {"_class_name": kind, **whole}, "steps": steps, **more}
    row["timesteps"] = f32(scheduler.timesteps)
    row["init_noise_sigma"] = float(getattr(scheduler, "init_noise_sigma", 1.0))
    # The path's normals depend on the type they are drawn in, and pipelines draw in f32.
    typed = torch.Tensor.float if kind == "DPMSolverSDEScheduler" else torch.Tensor.double
    first, given = 0, typed(start())
    if "strength" in more:
        first = first_of(kind, scheduler, steps, more["strength"])
    begin_at(scheduler, first)
    if "strength" in more:
        row["first"] = first
        add = scheduler.scale_noise if kind.startswith("FlowMatch") else scheduler.add_noise
        if kind.startswith("FlowMatch"):
            sample = add(given, scheduler.timesteps[first : first + 1], noise(-1))
        else:
            sample = add(given, noise(-1), scheduler.timesteps[first : first + 1])
        row["picture"], row["noised"] = digits(given), digits(sample)
    else:
        sample = given * row["init_noise_sigma"]
    row["start"] = digits(sample)
    # The pipelines say 0 where nothing else is said.
    step = {"eta": more.get("eta", 0.0)} if kind == "TCDScheduler" else {}
    inputs, samples = walk(scheduler, first, typed(sample), step)
    double = as_double(make(name, kind, config, steps, more))
    begin_at(double, first)
    _, exact = walk(double, first, typed(sample), step)
    gap = max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in zip(samples, exact))
    row["inputs"], row["samples"] = [digits(x) for x in inputs], [digits(x) for x in samples]
    row["double_gap"] = float(f"{gap:.2g}")
    return row


def brownian():
    """Increments of paths as `DPMSolverSDEScheduler` asks for them, between f32 times."""
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    rows = []
    for seed, count in ((0, 8), (123456789, 20), (2**40 + 7, 8)):
        low, high = (float(np.float32(x)) for x in (0.0413, 14.614647))
        sampler = BrownianTreeNoiseSampler(torch.zeros(1, count), low, high, seed)
        for after, before in ((low, high), (low, 0.3), (5.0, 11.25), (13.37, high), (0.5, 0.500001)):
            after, before = float(np.float32(after)), float(np.float32(before))
            w = sampler.tree(torch.tensor(after), torch.tensor(before))
            rows.append({"seed": seed, "ends": [low, high], "from": after, "to": before, "increment": f32(w[0])})
    return rows


def main():
    write_json("samplers.json", {"rows": [run(*row) for row in rows()], "brownian": brownian()})


if __name__ == "__main__":
    main()
