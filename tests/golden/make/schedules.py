"""Makes `schedules.json`: noise tables, timesteps, sigmas and short traces of DDIM, Euler and Euler ancestral.

A trace replaces the model by `output[i][j] = sin(0.37 j + 0.91 i)` and the noise by `cos(0.53 j + 0.29 i)` (step i,
element j), so that a sampler can be tested with nothing but arithmetic.
"""

import numpy as np

from common import torch, write_json
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral_module

WIDTH = 8
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1}
LINEAR = {**STABLE_DIFFUSION, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
COSINE = {**STABLE_DIFFUSION, "beta_schedule": "squaredcos_cap_v2"}
KINDS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_ancestral": EulerAncestralDiscreteScheduler}
DDIM = {"clip_sample": False, "set_alpha_to_one": False}


def rows():
    """Yields (name, kind, config, steps, eta)."""
    for spacing, counts in (("leading", (1, 4, 7, 20, 30, 50)), ("linspace", (1, 7, 20)), ("trailing", (1, 4, 7, 30))):
        for steps in counts:
            for kind in KINDS:
                # The long counts are there for their timesteps; one kind of Euler is enough at 50.
                if steps == 50 and kind == "euler_ancestral":
                    continue
                extra = DDIM if kind == "ddim" else {}
                yield f"{kind}-{spacing}-{steps}", kind, {**STABLE_DIFFUSION, **extra, "timestep_spacing": spacing}, steps, 0.0
    for kind in KINDS:
        extra = DDIM if kind == "ddim" else {}
        yield f"{kind}-v-leading-7", kind, {**STABLE_DIFFUSION, **extra, "timestep_spacing": "leading", "prediction_type": "v_prediction"}, 7, 0.0
        yield f"{kind}-v-trailing-4", kind, {**STABLE_DIFFUSION, **extra, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}, 4, 0.0
        yield f"{kind}-linear-betas-7", kind, {**LINEAR, **extra, "timestep_spacing": "leading"}, 7, 0.0
        yield f"{kind}-cosine-betas-7", kind, {**COSINE, **extra, "timestep_spacing": "leading"}, 7, 0.0
    lead = {**STABLE_DIFFUSION, "timestep_spacing": "leading"}
    yield "ddim-alpha-one-7", "ddim", {**lead, "clip_sample": False, "set_alpha_to_one": True}, 7, 0.0
    yield "ddim-clip-7", "ddim", {**lead, "clip_sample": True, "set_alpha_to_one": False}, 7, 0.0
    yield "ddim-offset-0-7", "ddim", {**lead, **DDIM, "steps_offset": 0}, 7, 0.0
    yield "ddim-eta-1-7", "ddim", {**lead, **DDIM}, 7, 1.0
    yield "ddim-eta-0.5-v-7", "ddim", {**lead, **DDIM, "prediction_type": "v_prediction"}, 7, 0.5
    yield "ddim-zero-snr-7", "ddim", {**STABLE_DIFFUSION, **DDIM, "timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, 7, 0.0
    yield "euler-karras-7", "euler", {**lead, "use_karras_sigmas": True}, 7, 0.0
    yield "euler-karras-linspace-20", "euler", {**lead, "timestep_spacing": "linspace", "use_karras_sigmas": True}, 20, 0.0
    yield "euler-exponential-7", "euler", {**lead, "use_exponential_sigmas": True}, 7, 0.0
    yield "euler-beta-7", "euler", {**lead, "use_beta_sigmas": True}, 7, 0.0
    yield "euler-zero-snr-7", "euler", {**STABLE_DIFFUSION, "timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, 7, 0.0
    yield "euler-sigma-min-7", "euler", {**lead, "final_sigmas_type": "sigma_min"}, 7, 0.0
    yield "euler-sigma-zero-7", "euler", {**lead, "final_sigmas_type": "zero"}, 7, 0.0


def model_output(i):
    return torch.sin(0.37 * torch.arange(WIDTH, dtype=torch.float64) + 0.91 * i)


def noise(i):
    return torch.cos(0.53 * torch.arange(WIDTH, dtype=torch.float64) + 0.29 * i)


def start():
    return 1.3 * torch.cos(0.61 * torch.arange(WIDTH, dtype=torch.float64) + 0.2)


def f32(values):
    """The shortest decimals that read back as the same f32."""
    return [float(str(np.float32(v))) for v in np.asarray(values).tolist()]


def digits(values):
    return [float(f"{v:.12g}") for v in values.tolist()]


def run(name, kind, config, steps, eta):
    scheduler = KINDS[kind](**config)
    scheduler.set_timesteps(steps)
    sample = start() * float(scheduler.init_noise_sigma)
    # As `save_pretrained` would write it: every key, defaults included.
    whole = {k: v for k, v in scheduler.config.items() if k != "_use_default_values"}
    row = {"name": name, "kind": kind, "config": {"_class_name": type(scheduler).__name__, **whole}, "steps": steps, "eta": eta}
    row["timesteps"] = [int(t) for t in scheduler.timesteps] if kind == "ddim" else f32(scheduler.timesteps)
    if kind != "ddim":
        row["sigmas"] = f32(scheduler.sigmas)
    row["init_noise_sigma"] = float(scheduler.init_noise_sigma)
    row["start"] = digits(sample)
    inputs, samples, double = [], [], sample.clone()
    gap = 0.0
    for i, t in enumerate(scheduler.timesteps):
        inputs.append(digits(scheduler.scale_model_input(sample, t)))
        if kind == "ddim":
            extra = {"variance_noise": noise(i)} if eta > 0 else {}
            sample = scheduler.step(model_output(i), int(t), sample, eta=eta, **extra).prev_sample
        else:
            ancestral_module.randn_tensor = lambda *a, i=i, **k: noise(i)
            sample = scheduler.step(model_output(i), t, sample).prev_sample
        double = step_in_double(kind, scheduler, i, double, eta)
        gap = max(gap, ((sample - double).norm() / double.norm()).item())
        samples.append(digits(sample))
    row["inputs"], row["samples"] = inputs, samples
    row["double_gap"] = float(f"{gap:.2g}")
    return row


def step_in_double(kind, scheduler, i, x, eta):
    """The same step written out by us and computed in f64 from the scheduler's f32 tables.

    `double_gap` in a row is how far diffusers, which rounds its scalars (and Euler's samples) to f32, lies from this:
    the floor under any tolerance.
    """
    e, v = model_output(i), scheduler.config.prediction_type == "v_prediction"
    if kind == "ddim":
        t = int(scheduler.timesteps[i])
        before = t - 1000 // scheduler.num_inference_steps
        a = float(scheduler.alphas_cumprod[t])
        b = float(scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod)
        x0 = a**0.5 * x - (1 - a) ** 0.5 * e if v else (x - (1 - a) ** 0.5 * e) / a**0.5
        eps = a**0.5 * e + (1 - a) ** 0.5 * x if v else e
        x0 = x0.clamp(-1, 1) if scheduler.config.clip_sample else x0
        spread = eta * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        return b**0.5 * x0 + (1 - b - spread**2) ** 0.5 * eps + spread * noise(i)
    here, there = float(scheduler.sigmas[i]), float(scheduler.sigmas[i + 1])
    x0 = x / (here**2 + 1) - here / (here**2 + 1) ** 0.5 * e if v else x - here * e
    up = (there**2 * (here**2 - there**2) / here**2) ** 0.5 if kind == "euler_ancestral" else 0.0
    down = (there**2 - up**2) ** 0.5
    return x + (x - x0) / here * (down - here) + up * noise(i)


def table(config):
    """`alphas_cumprod` as diffusers holds it, after proving our recipe for it bit-exact.

    f32 betas; f32 `1 - beta`; the running product kept in f64 and rounded to f32 at each entry.
    """
    ours = DDIMScheduler(**config)
    product, values = 1.0, []
    for alpha in (1.0 - ours.betas).tolist():
        product *= alpha
        values.append(np.float32(product))
    theirs = ours.alphas_cumprod.numpy()
    if not config.get("rescale_betas_zero_snr"):
        assert (np.array(values) == theirs).all(), config
    picks = [*range(0, 1000, 37), 998, 999]
    return {"config": config, "timesteps": picks, "betas": f32(ours.betas[picks]), "alphas_cumprod": f32(theirs[picks])}


def main():
    tables = [table(c) for c in (STABLE_DIFFUSION, LINEAR, COSINE, {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True})]
    write_json("schedules.json", {"tables": tables, "rows": [run(*row) for row in rows()]})


if __name__ == "__main__":
    main()
