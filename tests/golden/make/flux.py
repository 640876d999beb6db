"""Makes `tiny-flux/`, `tiny-flux.safetensors` and `tiny-flux.json`: FLUX.1 at toy size, from prompt to picture, as dev (told a guidance
scale, shifted by the picture's size) and as schnell (neither).
"""

import shutil

import numpy as np

from common import OUT, SHAPES, torch, write_json, write_tensors
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from flow import PROMPT, SEED, SENTENCES, Tap, checked, fill, generator, thin
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel

NAME = "tiny-flux"
RUN = {"prompt": PROMPT, "seed": SEED, "height": 24, "width": 40, "steps": 4, "guidance_scale": 3.5}
# How many tokens of the prompt either kind reads.
LENGTHS = {"dev": 512, "schnell": 256}


def pieces_tokenizer():
    """A unigram tokenizer made as T5's is: words with a mark for the blank before them, single letters for what is no word."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    letters = sorted({letter for sentence in SENTENCES for letter in sentence if letter != " "})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -4.0 - 0.01 * i) for i, word in enumerate(words)] + [(letter, -9.0 - 0.01 * i) for i, letter in enumerate(letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right", model_max_length=512)


def build():
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=20, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=3, joint_attention_dim=40,
        pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=728, bos_token_id=726, eos_token_id=727, pad_token_id=727, max_position_embeddings=77, hidden_size=32, intermediate_size=64,
        num_attention_heads=4, num_hidden_layers=3, hidden_act="quick_gelu", projection_dim=24,
    ))
    t5 = T5EncoderModel(T5Config(
        vocab_size=160, d_model=40, d_kv=6, d_ff=56, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu", relative_attention_num_buckets=32,
        relative_attention_max_distance=128, dropout_rate=0.1,
    ))
    vae = AutoencoderKL(
        block_out_channels=(8, 12), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
        latent_channels=5, norm_num_groups=4, sample_size=32, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=fill(f"{NAME}.vae", vae),
        text_encoder=fill(f"{NAME}.text", clip), tokenizer=CLIPTokenizer.from_pretrained(SHAPES / "tokenizer"),
        text_encoder_2=fill(f"{NAME}.text2", t5), tokenizer_2=pieces_tokenizer(), transformer=fill(f"{NAME}.transformer", transformer),
    )


def load(kind, dtype=torch.float32):
    at = OUT / NAME
    is_dev = kind == "dev"
    pipe = FluxPipeline.from_pretrained(
        at, torch_dtype=dtype,
        text_encoder=CLIPTextModel.from_pretrained(at / "text_encoder", dtype=dtype),
        text_encoder_2=T5EncoderModel.from_pretrained(at / "text_encoder_2", dtype=dtype),
        transformer=FluxTransformer2DModel.from_pretrained(at / "transformer", torch_dtype=dtype, guidance_embeds=is_dev),
        vae=AutoencoderKL.from_pretrained(at / "vae", torch_dtype=dtype),
        **({} if is_dev else {"scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0)}),
    )
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.transformer, pipe.vae):
        assert {p.dtype for p in part.parameters()} == {dtype}
        part.eval()
    assert (pipe.transformer.time_text_embed.__class__.__name__ == "CombinedTimestepGuidanceTextProjEmbeddings") == is_dev
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe, tensors, kind, tap=None):
    latents = []

    def keep(_, i, t, kwargs):
        latents.append(kwargs["latents"].clone())
        if tap:
            tap.release()
        return kwargs

    if tap:
        tap.watch("transformer", pipe.transformer, lambda n: n in ("x_embedder", "context_embedder", "time_text_embed", "norm_out", "proj_out")
                  or "transformer_blocks." in n and (n.count(".") == 1 or n.endswith((".attn", ".ff", ".ff_context"))))
    image = pipe(
        prompt=PROMPT, height=RUN["height"], width=RUN["width"], num_inference_steps=RUN["steps"], guidance_scale=RUN["guidance_scale"],
        max_sequence_length=LENGTHS[kind], generator=generator(), callback_on_step_end=keep, output_type="np",
    ).images
    for i, value in enumerate(latents):
        tensors[f"{kind}.latents.step{i}"] = value
    tensors[f"{kind}.image.u8"] = torch.from_numpy(np.array(pipe.image_processor.numpy_to_pil(image)[0]))


@torch.no_grad()
def record(dtype=torch.float32, change=lambda pipe: None):
    """All tensors; `change` may spoil the model first."""
    tensors, settings = {}, dict(RUN)
    for kind in LENGTHS:
        pipe = load(kind, dtype)
        change(pipe)
        if kind == "dev":
            # A word that the tokenizer does not know, and letters that it does.
            for i, text in enumerate((PROMPT, "a Zebra  photographs\n1874 ~ mountain-lakes ")):
                tensors[f"ids.{i}"] = pipe.tokenizer_2(text, return_tensors="pt").input_ids[0]
            states, whole, _ = pipe.encode_prompt(PROMPT, None, max_sequence_length=LENGTHS[kind])
            tensors["text2.last"], tensors["text.whole"] = states, whole
            tap = Tap()
            sample(pipe, tensors, kind, tap)
            tensors.update(tap.tensors)
        else:
            sample(pipe, tensors, kind)
        settings[f"{kind}.sigmas"] = pipe.scheduler.sigmas.tolist()
    return tensors, settings


def main():
    folder = OUT / NAME
    shutil.rmtree(folder, ignore_errors=True)
    build().save_pretrained(folder)
    # The demo model's files as they are, rather than as this version of transformers would write them.
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(SHAPES / "tokenizer", folder / "tokenizer", copy_function=shutil.copyfile)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    tensors, settings = record()
    write_tensors(f"{NAME}.safetensors", thin(checked(NAME, tensors)))
    write_json(f"{NAME}.json", settings)


if __name__ == "__main__":
    main()
