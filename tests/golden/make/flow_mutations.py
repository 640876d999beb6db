"""Makes `flow_mutations.json`: how far likely mistakes push the numbers of the flow models, and how far rounding alone does.

As `mutations.py` for Stable Diffusion: each mistake is made inside diffusers and the whole record of a tiny model is taken again. It
counts as seen only in the part that makes it, and must exceed a gate there tenfold; the script fails otherwise.
"""

import contextlib

import flux
import flux2
import z_image
from common import relative_l2, torch, write_json
from diffusers.models.attention import FeedForward
from diffusers.models.transformers import transformer_flux, transformer_flux2, transformer_z_image
from diffusers.pipelines.flux import pipeline_flux
from diffusers.pipelines.flux2 import pipeline_flux2_klein
from diffusers.pipelines.z_image import pipeline_z_image

BLOCK, LATENTS, MARGIN = 1e-5, 1e-4, 10
FAMILIES = {"tiny-klein": flux2, "tiny-flux": flux, "tiny-z-image": z_image}


@contextlib.contextmanager
def patched(owner, name, value):
    own = name in owner.__dict__
    real = owner.__dict__[name] if own else None
    setattr(owner, name, value)
    yield
    setattr(owner, name, real) if own else delattr(owner, name)


# --- Places.

def ids_zero():
    real = pipeline_flux2_klein.Flux2KleinPipeline._prepare_text_ids
    return patched(pipeline_flux2_klein.Flux2KleinPipeline, "_prepare_text_ids", staticmethod(lambda x, t_coord=None: real(x, t_coord) * 0))


def bf16_places():
    real = transformer_flux2.Flux2PosEmbed.forward
    return patched(transformer_flux2.Flux2PosEmbed, "forward", lambda self, ids: real(self, ids.bfloat16()))


def halves_turned(module):
    real = module.apply_rotary_emb
    return patched(module, "apply_rotary_emb", lambda x, f, **k: real(x, f, use_real_unbind_dim=-2, **k))


def references_at_zero():
    real = pipeline_flux2_klein.Flux2KleinPipeline._prepare_image_ids
    return patched(pipeline_flux2_klein.Flux2KleinPipeline, "_prepare_image_ids", staticmethod(lambda latents, scale=10: real(latents, scale=0)))


def words_in_a_row():
    def encode(self, *args, **kwargs):
        states, whole, ids = real(self, *args, **kwargs)
        ids[:, 1] = torch.arange(len(ids))
        return states, whole, ids

    real = pipeline_flux.FluxPipeline.encode_prompt
    return patched(pipeline_flux.FluxPipeline, "encode_prompt", encode)


def picture_one_place_early():
    def pad(self, feat, size, start, device, noise_mask_val=None):
        return real(self, feat, size, start if size[1:] == (1, 1) else (start[0] - 1, *start[1:]), device, noise_mask_val)

    real = transformer_z_image.ZImageTransformer2DModel._pad_with_ids
    return patched(transformer_z_image.ZImageTransformer2DModel, "_pad_with_ids", pad)


# --- Texts.

def no_pad_mask(pipe):
    real = pipe.text_encoder.forward
    pipe.text_encoder.forward = lambda *a, attention_mask=None, **k: real(*a, **k)


def pads_zeroed(pipe):
    def encode(*args, **kwargs):
        states, ids = real(*args, **kwargs)
        states[:, 20:] = 0
        return states, ids

    real = pipe.encode_prompt
    pipe.encode_prompt = encode


def layers_early():
    return patched(flux2, "LAYERS", (1, 3, 5))


def pads_masked(pipe):
    real = pipe.text_encoder_2.forward
    pipe.text_encoder_2.forward = lambda ids, **k: real(ids, attention_mask=(ids != 0).long(), **k)


def whole_at_the_end(pipe):
    pipe.text_encoder.config.eos_token_id = pipe.text_encoder.eos_token_id = 10**6


def pads_kept(pipe):
    def encode(*args, **kwargs):
        return [torch.cat([states, states[-1:].repeat(9, 1)]) for states in real(*args, **kwargs)]

    real = pipe._encode_prompt
    pipe._encode_prompt = encode


# --- Blocks.

def modulation_order():
    def split(mod, sets):
        return tuple((scale, shift, gate) for shift, scale, gate in real(mod, sets))

    real = transformer_flux2.Flux2Modulation.split
    return patched(transformer_flux2.Flux2Modulation, "split", staticmethod(split))


def gate_second():
    def forward(self, x):
        value, gate = x.chunk(2, dim=-1)
        return self.gate_fn(gate) * value

    return patched(transformer_flux2.Flux2SwiGLU, "forward", forward)


def exact_gelu(pipe):
    for module in pipe.transformer.modules():
        if isinstance(module, FeedForward):
            module.net[0].approximate = "none"
    for block in pipe.transformer.single_transformer_blocks:
        block.act_mlp = torch.nn.GELU()


def sine_first(pipe):
    for module in pipe.transformer.modules():
        if hasattr(module, "flip_sin_to_cos"):
            module.flip_sin_to_cos = False


def gates_open():
    return patched(torch.Tensor, "tanh", lambda self: self)


def no_refiner(pipe):
    pipe.transformer.context_refiner = torch.nn.ModuleList()


# --- Levels and latents.

def shift_of_flux():
    return patched(pipeline_flux2_klein, "compute_empirical_mu", lambda image_seq_len, num_steps: 0.5 + 0.65 * (image_seq_len - 256) / 3840)


def no_shift(pipe):
    pipe.scheduler = type(pipe.scheduler).from_config({**pipe.scheduler.config, "use_dynamic_shifting": False, "shift": 1.0})


def latents_not_normed(pipe):
    pipe.vae.bn.running_mean.zero_()
    pipe.vae.bn.running_var.fill_(1)


def patch_order():
    def pack(latents, batch_size, channels, height, width):
        latents = latents.view(batch_size, channels, height // 2, 2, width // 2, 2)
        return latents.permute(0, 2, 4, 3, 5, 1).reshape(batch_size, (height // 2) * (width // 2), channels * 4)

    return patched(pipeline_flux.FluxPipeline, "_pack_latents", staticmethod(pack))


# (what goes wrong, model, the part whose numbers must show it, a function that spoils a loaded pipeline)
IN_MODEL = [
    ("padding looked at in the text encoder", "tiny-klein", "text", no_pad_mask),
    ("padding of the text zeroed", "tiny-klein", "transformer", pads_zeroed),
    ("timestep sinusoid with sine first", "tiny-klein", "transformer", sine_first),
    ("latents not normed", "tiny-klein", "vae", latents_not_normed),
    ("no shift of the levels", "tiny-klein", "latents", no_shift),
    ("padding of T5 masked", "tiny-flux", "text2", pads_masked),
    ("text as a whole taken elsewhere than at its end", "tiny-flux", "text", whole_at_the_end),
    ("exact GELU for the tanh form", "tiny-flux", "transformer", exact_gelu),
    ("timestep sinusoid with sine first", "tiny-flux", "transformer", sine_first),
    ("no shift of the levels", "tiny-flux", "latents", no_shift),
    ("padding of the text kept", "tiny-z-image", "text", pads_kept),
    ("text not refined", "tiny-z-image", "transformer", no_refiner),
    ("no shift of the levels", "tiny-z-image", "latents", no_shift),
]
# (what goes wrong, model, the part whose numbers must show it, a function that gives a context in which the library is spoiled)
IN_LIBRARY = [
    ("all words at the origin", "tiny-klein", "transformer", ids_zero),
    ("places in bf16", "tiny-klein", "transformer", bf16_places),
    ("halves of a head turned for adjacent pairs", "tiny-klein", "transformer", lambda: halves_turned(transformer_flux2)),
    ("pictures to look at in the place of the picture", "tiny-klein", "latents", references_at_zero),
    ("the text encoder read one layer early", "tiny-klein", "text", layers_early),
    ("scale before shift in modulations", "tiny-klein", "transformer", modulation_order),
    ("halves of the gated product swapped", "tiny-klein", "transformer", gate_second),
    ("the shift of FLUX.1", "tiny-klein", "latents", shift_of_flux),
    ("words in a row", "tiny-flux", "transformer", words_in_a_row),
    ("halves of a head turned for adjacent pairs", "tiny-flux", "transformer", lambda: halves_turned(transformer_flux)),
    ("latents packed with the channel last", "tiny-flux", "latents", patch_order),
    ("the picture one place early", "tiny-z-image", "transformer", picture_one_place_early),
    ("gates without tanh", "tiny-z-image", "transformer", gates_open),
]


def part_of(key):
    return "latents" if ".latents." in key else key.split(".")[0]


def gate(key):
    if ".latents." in key:
        return LATENTS
    return BLOCK if key.startswith(("text", "transformer.", "vae.")) else None


def errors(got, want):
    """Relative L2 of everything gated; another shape is another picture."""
    return {k: relative_l2(got[k], want[k]) if got[k].shape == want[k].shape else 1.0 for k in want if gate(k) and k in got}


def two(x):
    return float(f"{x:.2g}")


def floors(family, want):
    """The largest error of each kind that f32 makes against f64, from the same f32 noise."""
    with contextlib.ExitStack() as stack:
        for owner in (pipeline_flux, pipeline_flux2_klein, pipeline_z_image):
            real = owner.randn_tensor
            draw = lambda shape, generator=None, device=None, dtype=None, real=real: real(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)
            stack.enter_context(patched(owner, "randn_tensor", draw))
        try:
            double, _ = family.record(torch.float64)
        except RuntimeError:
            # Z-Image's latents are f32 whatever its parts compute in.
            return {}
    worst = {}
    for key, error in errors(want, double).items():
        if error >= worst.get(part_of(key), ("", -1.0))[1]:
            worst[part_of(key)] = (key, two(error))
    return {k: {"key": v[0], "error": v[1]} for k, v in worst.items()}


def main():
    base = {name: family.record()[0] for name, family in FAMILIES.items()}
    noise = {name: floors(family, base[name]) for name, family in FAMILIES.items()}
    rows, weak = [], []

    def attempts():
        for what, name, part, spoil in IN_MODEL:
            yield what, name, part, FAMILIES[name].record(change=spoil)[0]
        for what, name, part, spoil in IN_LIBRARY:
            with spoil():
                yield what, name, part, FAMILIES[name].record()[0]

    for what, name, part, got in attempts():
        over = {k: e / gate(k) for k, e in errors(got, base[name]).items() if part_of(k) == part}
        worst = max(over, key=over.get)
        if over[worst] < MARGIN:
            weak.append((what, name, worst, over[worst]))
            continue
        rows.append({"mistake": what, "model": name, "part": part, "worst": worst, "times_gate": two(over[worst])})
    write_json("flow_mutations.json", {"gates": {"block": BLOCK, "latents": LATENTS}, "floors": noise, "mutations": rows})
    assert not weak, weak


if __name__ == "__main__":
    main()
