"""What the scripts of the flow models (FLUX.1, FLUX.2 klein, Z-Image) share: weights that matter, a small language model's
tokenizer, and how blocks that give several tensors are recorded.
"""

import zlib

from common import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SEED = 42
PROMPT = "a red circle on a blue background"
# A large tensor is kept as every n-th value of its flat form; a prime does not beat with any shape.
SAMPLES = 1536

# How Qwen cuts a text into words.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# Our own, with what published ones use: a namespace, a loop from the end, methods of strings, blocks that trim.
TEMPLATE = """\
{%- set seen = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set place = (messages|length - 1) - loop.index0 %}
    {%- if seen.last < 0 and message.role == "user" and message.content is string and not message.content.startswith('<reply>') %}
        {%- set seen.last = place %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt and seen.last >= 0 %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

SENTENCES = [
    "a red circle on a blue background", "a green square beside a yellow triangle", "the quick brown fox jumps over the lazy dog",
    "a photograph of a mountain lake at sunrise, highly detailed", "user and assistant think about the picture",
    "it's the dog's ball; they've taken what we'll need", "an oil painting of two ships in a storm, 1874",
]


def language_tokenizer():
    """A byte-level tokenizer made as Qwen's is, trained on a few sentences; 512 tokens at most."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(WORDS), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken(t, special=False) for t in ("<think>", "</think>")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="right", model_max_length=1024,
    )
    fast.chat_template = TEMPLATE
    return fast


# The first ending that fits decides. (gain of the weight, deviation of the bias)
GAINS = [
    # Peaks: what decides on attention, and what feed-forwards gate by.
    ("norm_q", 0.6, 0.0), ("norm_k", 0.6, 0.0), ("norm_added_q", 0.6, 0.0), ("norm_added_k", 0.6, 0.0), ("q_norm", 0.6, 0.0), ("k_norm", 0.6, 0.0),
    ("linear_in", 1.6, 0.2), ("net.0.proj", 1.6, 0.2), ("proj_mlp", 1.6, 0.2), ("gate_proj", 1.6, 0.0), ("up_proj", 1.3, 0.0), ("w1", 1.6, 0.0), ("w3", 1.3, 0.0),
    ("embedder.linear_1", 1.4, 0.2), ("embedder.linear_2", 1.4, 0.2), ("t_embedder.mlp.0", 1.4, 0.2), ("t_embedder.mlp.2", 1.4, 0.2),
    # Streams that stay small enough for a feed-forward to show in them.
    ("net.2", 0.5, 0.05), ("norm1.linear", 0.6, 0.1), ("norm1_context.linear", 0.6, 0.1),
    # Autoencoders, as in tiny.py: small residual streams, so that the epsilons of the norms show.
    ("conv2", 0.1, 0.02), ("vae.encoder.conv_in", 0.2, 0.02), ("vae.decoder.conv_in", 0.1, 0.02), ("conv_shortcut", 1.0, 0.02),
    ("samplers.0.conv", 1.0, 0.02), ("vae.to_out.0", 0.4, 0.02), ("decoder.conv_out", 0.5, 0.1),
    ("", 1.0, 0.1),
]


@torch.no_grad()
def fill(name, model):
    """Draws every weight of `model` from its own generator, seeded by its name: order of creation cannot change it."""
    for path, weight in [*model.named_parameters(), *model.named_buffers()]:
        whole = f"{name}.{path}"
        draw = torch.Generator("cpu").manual_seed(zlib.crc32(whole.encode()))
        if path.endswith("num_batches_tracked") or "inv_freq" in path:
            continue
        normal = torch.randn(weight.shape, generator=draw)
        owner, kind = whole.rsplit(".", 1)
        _, gain, bias = next(row for row in GAINS if owner.endswith(row[0]))
        if kind == "running_var":
            weight.copy_(0.4 + normal.abs())
        elif kind == "running_mean":
            weight.copy_(0.4 * normal)
        elif kind.endswith("pad_token"):
            weight.copy_(normal)
        elif "embed_tokens" in owner or owner.endswith("shared") or "token_embedding" in owner or "position_embedding" in owner:
            weight.copy_(0.3 * normal)
        elif "relative_attention_bias" in owner:
            weight.copy_(1.5 * normal)
        elif weight.dim() == 1 and kind == "weight":
            # Norms: around 1 and different from channel to channel; those of queries and keys larger, for opinions.
            weight.copy_((1.4 if gain == 0.6 else 1.0) + 0.25 * normal)
        elif kind == "bias":
            weight.copy_((bias or 0.1) * normal)
        else:
            weight.copy_(normal * (gain / weight[0].numel() ** 0.5))
    return model.half().eval()


class Tap:
    """Records the first output of chosen modules under their names; a module that gives several tensors, each by its index."""

    def __init__(self):
        self.tensors = {}
        self._hooks = []

    def watch(self, prefix, module, wanted):
        for name, child in module.named_modules():
            if name and wanted(name):
                self._hooks.append(child.register_forward_hook(lambda m, i, o, key=f"{prefix}.{name}": self._put(key, o)))

    def release(self):
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _put(self, key, output):
        several = isinstance(output, tuple) and len(output) > 1
        for index, tensor in enumerate(output if isinstance(output, tuple) else [output]):
            name = f"{key}.{index}" if several else key
            if name not in self.tensors:
                self.tensors[name] = tensor.detach().clone()


def generator():
    return torch.Generator("cpu").manual_seed(SEED)


def thin(tensors):
    """Keeps every n-th value of what is large, inputs and latents excepted; the key then ends in `#n`."""
    kept = {}
    for key, value in tensors.items():
        stride = 1
        whole = key.endswith((".input", ".u8")) or ".latents." in key or key.startswith("noise")
        if value.is_floating_point() and not whole and value.numel() > SAMPLES:
            stride = next(p for p in range(max(3, -(-value.numel() // SAMPLES)), 10**6) if all(p % q for q in range(2, p)))
        kept[key if stride == 1 else f"{key}#{stride}"] = value if stride == 1 else value.flatten()[::stride]
    return kept


def checked(name, tensors):
    for key, value in tensors.items():
        assert not value.is_floating_point() or value.isfinite().all(), (name, key)
    return tensors
