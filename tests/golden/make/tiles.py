"""Makes `tiles.safetensors`: latents that diffusers' autoencoder decodes in tiles."""

import torch
from common import OUT, write_tensors
from diffusers import AutoencoderKL

# Model, height and width of the latents, side of a tile.
CASES = [("tiny-sd", 21, 30, 8), ("tiny-sd2", 13, 9, 8)]


@torch.no_grad()
def main():
    tensors = {}
    for name, height, width, tile in CASES:
        vae = AutoencoderKL.from_pretrained(OUT / name / "vae", torch_dtype=torch.float32).eval()
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.enable_tiling()
        vae.tile_latent_min_size, vae.tile_sample_min_size, vae.tile_overlap_factor = tile, tile * factor, 0.25
        latents = torch.randn((1, 4, height, width), generator=torch.Generator("cpu").manual_seed(21))
        tensors[f"{name}.latents"] = latents
        tensors[f"{name}.picture"] = vae.decode(latents).sample
        assert tensors[f"{name}.picture"].shape[2:] == (height * factor, width * factor)
        vae.disable_tiling()
        assert not torch.allclose(tensors[f"{name}.picture"], vae.decode(latents).sample, atol=1e-3)
    write_tensors("tiles.safetensors", tensors)


if __name__ == "__main__":
    main()
