"""Makes `mutations.json`: how far likely mistakes push the numbers, and how far rounding alone does.

A gate is worth something only between two measurements: well above what f32 rounding does (`floors`, against the same
run in f64), and well below what a real mistake does (`mutations`). Each mistake is made inside diffusers and the whole
record of a tiny model is taken again. A mistake counts as seen only in the part that makes it (a test may feed a part
from the fixture), and must exceed a gate there tenfold; the script fails otherwise.
"""

import contextlib

import torch.nn.functional as F

import models
from common import relative_l2, torch, write_json
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders import vae as vae_module
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion, pipeline_stable_diffusion_img2img
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral_module
from transformers.activations import QuickGELUActivation
from transformers.models.clip import modeling_clip

BLOCK, LATENTS = 1e-5, 1e-4
# A mistake must exceed some gate by this much.
MARGIN = 10


@contextlib.contextmanager
def patched(owner, name, value):
    real = owner.__dict__[name]
    setattr(owner, name, value)
    yield
    setattr(owner, name, real)


def parts(model, kind):
    return [m for m in model.modules() if isinstance(m, kind)]


# --- The text encoder.

def pad_with_first_token(pipe):
    pipe.tokenizer.pad_token = "!"


def other_gelu(pipe):
    exact = pipe.text_encoder.config.hidden_act == "gelu"
    for layer in pipe.text_encoder.encoder.layers:
        layer.mlp.activation_fn = QuickGELUActivation() if exact else torch.nn.GELU()


def tanh_gelu_in_text(pipe):
    if pipe.text_encoder.config.hidden_act == "gelu":
        for layer in pipe.text_encoder.encoder.layers:
            layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")


def no_final_norm(pipe):
    pipe.text_encoder.final_layer_norm = torch.nn.Identity()


def text_epsilon(pipe):
    for norm in parts(pipe.text_encoder, torch.nn.LayerNorm):
        norm.eps = 1e-6


# --- The UNet.

def sinusoid_order(pipe):
    pipe.unet.time_proj.flip_sin_to_cos = False


def sinusoid_shift(pipe):
    pipe.unet.time_proj.downscale_freq_shift = 1


def half_sinusoid(pipe):
    half = 0.5 * pipe.unet.time_proj.num_channels

    def forward(t):
        frequencies = torch.exp(-9.210340371976184 * torch.arange(int(half), dtype=torch.float32) / half)
        angles = t[:, None].half() * frequencies.half()[None]
        return torch.cat([angles.cos(), angles.sin()], -1).float()

    pipe.unet.time_proj.forward = forward


def no_residual(pipe):
    pipe.unet.down_blocks[0].resnets[1].register_forward_hook(lambda m, a, o: o - a[0])


def skips_swapped(pipe):
    def swap(module, args, kwargs):
        first, *middle, last = kwargs["res_hidden_states_tuple"]
        # The two youngest have equal shapes in both models.
        kwargs["res_hidden_states_tuple"] = (first, last, *middle)
        return args, kwargs

    pipe.unet.up_blocks[1].register_forward_pre_hook(swap, with_kwargs=True)


def heads_misread(pipe):
    for attention in parts(pipe.unet, Attention):
        width = attention.to_q.out_features
        per_head = attention.heads
        attention.heads, attention.scale = width // per_head, per_head**-0.5


def resnet_epsilon(pipe):
    for block in parts(pipe.unet, ResnetBlock2D):
        block.norm1.eps = block.norm2.eps = 1e-6


def transformer_epsilon(pipe):
    for block in parts(pipe.unet, Transformer2DModel):
        block.norm.eps = 1e-5


def last_epsilon(pipe):
    pipe.unet.conv_norm_out.eps = 1e-6


def layer_epsilon(pipe):
    for norm in parts(pipe.unet, torch.nn.LayerNorm):
        norm.eps = 1e-6


# --- The autoencoder.

def no_scaling(pipe):
    pipe.vae.register_to_config(scaling_factor=1.0)


def vae_epsilon(pipe):
    for norm in parts(pipe.vae, torch.nn.GroupNorm):
        norm.eps = 1e-5


def even_padding(pipe):
    for down in parts(pipe.vae, Downsample2D):
        down.padding, down.conv.padding = 1, (1, 1)


def no_quant_convs(pipe):
    pipe.vae.quant_conv = pipe.vae.post_quant_conv = None
    pipe.vae.register_to_config(use_quant_conv=False, use_post_quant_conv=False)


# --- The run.

def rows_swapped(pipe):
    real = pipe.encode_prompt
    pipe.encode_prompt = lambda *a, **k: real(*a, **k)[::-1]


def tanh_geglu():
    return patched(GEGLU, "gelu", lambda self, gate: F.gelu(gate, approximate="tanh"))


def geglu_halves():
    def forward(self, x):
        gate, value = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)

    return patched(GEGLU, "forward", forward)


def no_causal_mask():
    zeros = lambda inputs_embeds, **k: inputs_embeds.new_zeros(1, 1, inputs_embeds.shape[1], inputs_embeds.shape[1])
    return patched(modeling_clip, "create_causal_mask", zeros)


@contextlib.contextmanager
def for_samplers(name, value):
    with patched(EulerDiscreteScheduler, name, value), patched(EulerAncestralDiscreteScheduler, name, value):
        yield


def no_start_sigma():
    return for_samplers("init_noise_sigma", 1.0)


def no_input_scaling():
    def untouched(self, sample, timestep):
        self.is_scale_input_called = True
        return sample

    return for_samplers("scale_model_input", untouched)


def schedulers_with(**changes):
    """The table of samplers, each with what it knows of `changes` set."""
    real = models.schedulers

    def table(prediction_type):
        out = {}
        for kind, scheduler in real(prediction_type).items():
            known = {k: v for k, v in changes.items() if k in scheduler.config}
            out[kind] = type(scheduler).from_config({**scheduler.config, **known})
        return out

    return patched(models, "schedulers", table)


BOTH = ("tiny-sd", "tiny-sd2")
# (what goes wrong, the part whose numbers must show it, models, a function that spoils a loaded pipeline)
IN_MODEL = [
    ("timestep sinusoid with sine first", "unet", BOTH, sinusoid_order),
    ("timestep sinusoid with frequency shift 1", "unet", BOTH, sinusoid_shift),
    ("timestep sinusoid computed in f16", "unet", BOTH, half_sinusoid),
    ("one resnet without its residual", "unet", BOTH, no_residual),
    ("two skip connections swapped", "unet", BOTH, skips_swapped),
    ("attention_head_dim read as the size of a head", "unet", BOTH, heads_misread),
    ("epsilon 1e-6 for 1e-5 in the UNet's resnets", "unet", BOTH, resnet_epsilon),
    ("epsilon 1e-5 for 1e-6 in the transformers' group norm", "unet", BOTH, transformer_epsilon),
    ("epsilon 1e-6 for 1e-5 in the UNet's last norm", "unet", BOTH, last_epsilon),
    ("epsilon 1e-6 for 1e-5 in the UNet's layer norms", "unet", BOTH, layer_epsilon),
    ("padding with token 0 for the end token", "text", BOTH, pad_with_first_token),
    ("text encoder with the other GELU", "text", BOTH, other_gelu),
    ("text encoder with the tanh form of GELU", "text", ("tiny-sd2",), tanh_gelu_in_text),
    ("text encoder without the final norm", "text", BOTH, no_final_norm),
    ("epsilon 1e-6 for 1e-5 in the text encoder", "text", BOTH, text_epsilon),
    ("scaling_factor ignored", "latents", BOTH, no_scaling),
    ("epsilon 1e-5 for 1e-6 in the VAE", "vae", BOTH, vae_epsilon),
    ("VAE downsampling padded on both sides", "vae", BOTH, even_padding),
    ("VAE without its 1x1 convolutions", "vae", BOTH, no_quant_convs),
    ("prompt first, negative prompt second", "latents", BOTH, rows_swapped),
]
# (what goes wrong, the part whose numbers must show it, models, a function that gives a context in which the library is spoiled)
IN_LIBRARY = [
    ("GEGLU with the tanh form of GELU", "unet", BOTH, tanh_geglu),
    ("GEGLU with its halves swapped", "unet", BOTH, geglu_halves),
    ("text encoder without the causal mask", "text", BOTH, no_causal_mask),
    ("Euler without the first sigma in the noise", "latents", BOTH, no_start_sigma),
    ("Euler without scaling the model's input", "latents", BOTH, no_input_scaling),
    ("v-prediction taken for epsilon", "latents", ("tiny-sd2",), lambda: schedulers_with(prediction_type="epsilon")),
    ("DDIM that clips", "latents", BOTH, lambda: schedulers_with(clip_sample=True)),
    ("DDIM with set_alpha_to_one", "latents", BOTH, lambda: schedulers_with(set_alpha_to_one=True)),
    ("timestep offset 0 for 1", "latents", BOTH, lambda: schedulers_with(steps_offset=0)),
]


def attempts():
    """Yields (what goes wrong, part, model, the spoiled record)."""
    for what, part, names, spoil in IN_MODEL:
        for name in names:
            yield what, part, name, models.record(name, change=spoil)[0]
    for what, part, names, spoil in IN_LIBRARY:
        for name in names:
            with spoil():
                yield what, part, name, models.record(name)[0]


def gate(key):
    if ".latents." in key:
        return LATENTS
    return BLOCK if key.startswith(("text.", "text2.", "unet.", "vae.")) else None


def part_of(key):
    return "latents" if ".latents." in key else key.split(".")[0]


def errors(got, want):
    """Relative L2 of everything gated, in the order of the run."""
    return {k: relative_l2(got[k], want[k]) for k in want if gate(k) and k in got}


def two(x):
    return float(f"{x:.2g}")


def floors(name, want):
    """The largest error of each kind that f32 makes against f64, from the same f32 noise."""
    real = ancestral_module.randn_tensor

    def draw(shape, generator=None, device=None, dtype=None, **rest):
        return real(shape, generator=generator, device=device, dtype=torch.float32, **rest).to(dtype)

    with contextlib.ExitStack() as stack:
        for owner in (ancestral_module, vae_module, pipeline_stable_diffusion, pipeline_stable_diffusion_img2img):
            stack.enter_context(patched(owner, "randn_tensor", draw))
        double, _ = models.record(name, torch.float64)
    worst = {}
    for key, error in errors(want, double).items():
        kind = part_of(key)
        if error >= worst.get(kind, ("", -1.0))[1]:
            worst[kind] = (key, two(error))
    pixels = [(want[k].int() - (double[k.removesuffix(".u8")] * 255).round().int()).abs() for k in want if k.endswith("image.u8") and k.removesuffix(".u8") in double]
    worst["image samples more than one level off"] = ("", int(sum((p > 1).sum() for p in pixels)))
    return {k: {"key": v[0], "error": v[1]} if v[0] else v[1] for k, v in worst.items()}


def main():
    rows, base, noise = [], {}, {}
    for name in models.RUNS:
        base[name], _ = models.record(name)
        noise[name] = floors(name, base[name])
    weak = []
    for what, part, name, got in attempts():
        found = errors(got, base[name])
        over = {k: e / gate(k) for k, e in found.items() if part_of(k) == part}
        first, worst = next((k for k in over if over[k] > 1), None), max(over, key=over.get)
        if over[worst] < MARGIN:
            weak.append((what, name, worst, over[worst]))
            continue
        rows.append({
            "mistake": what, "model": name, "part": part, "first": first, "first_error": two(found[first]),
            "worst": worst, "worst_error": two(found[worst]), "times_gate": two(over[worst]),
            "latents_error": two(max(e for k, e in found.items() if part_of(k) == "latents")),
        })
    write_json("mutations.json", {"gates": {"block": BLOCK, "latents": LATENTS}, "floors": noise, "mutations": rows})
    assert not weak, weak


if __name__ == "__main__":
    main()
