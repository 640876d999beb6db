"""Makes `prompts.safetensors` and `prompts.json`: weighted and long prompts as the tiny models' text encoders give them.

compel is the library of that name. The syntax of brackets is written out here, from its description: regular expressions cut the
prompt, every token counts what its brackets say, states are multiplied and then scaled back to the mean they had.
"""

import re
import warnings

import torch
from compel import Compel, ReturnedEmbeddingsType
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import OUT, write_json, write_tensors

LONG = "a red circle on a blue ground. " * 9 + "small, green triangle, " * 6 + "the end of all of it"
COMPEL = [
    "a red circle",
    "a (red)1.3 circle++ on blue",
    "a (big red)++ circle, small- blue ground--",
    "(a (very red)1.4 circle)0.8, and (\"a blue square\")1.2",
    "a well-known (yellow)0.2 \\(literal\\) star",
    "(red)0 circle",
    LONG.replace("green", "green+++").replace("end", "(end)0.5"),
]
EMPHASIS = [
    "a red circle",
    "a (red) circle, ((blue:1.2)) [ground]",
    "a (red circle:0.4) \\(literal\\) (unclosed [blue",
    "a red circle BREAK (blue:1.5) ground",
    LONG.replace("green", "(green:1.4)"),
]
# A prompt and its negative are made equally long.
PAIRS = [("compel", 6, 2), ("emphasis", 4, 1)]

TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")


def brackets(text):
    """[(words, weight)], with None for the words of a break."""
    parts, opened = [], {"(": [], "[": []}

    def scale(start, factor):
        parts[start:] = [(words, weight * factor) for words, weight in parts[start:]]

    for match in TOKEN.finditer(text):
        mark, number = match.group(0), match.group(1)
        if mark[0] == "\\":
            parts.append((mark[1:], 1.0))
        elif mark in "([":
            opened[mark].append(len(parts))
        elif number is not None and opened["("]:
            scale(opened["("].pop(), float(number))
        elif mark == ")" and opened["("]:
            scale(opened["("].pop(), 1.1)
        elif mark == "]" and opened["["]:
            scale(opened["["].pop(), 1 / 1.1)
        else:
            for index, words in enumerate(re.split(r"\s*\bBREAK\b\s*", mark)):
                parts += [(None, 1.0)] * (index > 0) + [(words, 1.0)]
    for start in opened["("]:
        scale(start, 1.1)
    for start in opened["["]:
        scale(start, 1 / 1.1)
    joined = []
    for words, weight in parts:
        if joined and words is not None and joined[-1][0] is not None and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + words, weight)
        else:
            joined.append((words, weight))
    return joined


def chunks(tokenizer, text, length=75, near=20):
    comma = tokenizer.get_vocab()[",</w>"]
    done, ids, weights, last = [], [], [], -1

    def close(upto=None):
        nonlocal ids, weights, last
        upto = len(ids) if upto is None else upto
        done.append((ids[:upto], weights[:upto]))
        ids, weights, last = ids[upto:], weights[upto:], -1

    for words, weight in brackets(text):
        if words is None:
            close()
            continue
        for token in tokenizer(words, add_special_tokens=False)["input_ids"]:
            if token == comma:
                last = len(ids)
            elif len(ids) == length and last != -1 and len(ids) - last <= near:
                close(last + 1)
            if len(ids) == length:
                close()
            ids.append(token)
            weights.append(weight)
    if ids or not done:
        close()
    return done


def emphasis(tokenizer, encode, text, count=0):
    rows = []
    cut = chunks(tokenizer, text)
    for ids, weights in cut + [([], [])] * (count - len(cut)):
        room = 75 - len(ids)
        tokens = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] + [tokenizer.pad_token_id] * room
        state = encode(torch.tensor([tokens]))
        scaled = state * torch.tensor([1.0, *weights, 1.0] + [1.0] * room)[None, :, None]
        rows.append(scaled * (state.mean() / scaled.mean()))
    return torch.cat(rows, dim=1)


def parts(name):
    folder = OUT / name
    tokenizers = [CLIPTokenizer.from_pretrained(folder / "tokenizer")]
    encoders = [CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)]
    if name != "tiny-sdxl":
        return tokenizers, encoders, [lambda ids: encoders[0](ids).last_hidden_state]
    tokenizers.append(CLIPTokenizer.from_pretrained(folder / "tokenizer_2"))
    encoders.append(CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2", dtype=torch.float32))
    return tokenizers, encoders, [lambda ids, e=e: e(ids, output_hidden_states=True).hidden_states[-2] for e in encoders]


@torch.no_grad()
def record(name, tensors):
    tokenizers, encoders, encode = parts(name)
    if len(encoders) == 1:
        library = Compel(tokenizer=tokenizers[0], text_encoder=encoders[0], truncate_long_prompts=False)
    else:
        kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        library = Compel(tokenizer=tokenizers, text_encoder=encoders, truncate_long_prompts=False, returned_embeddings_type=kind, requires_pooled=[False, True])

    def compel(text):
        made = library.build_conditioning_tensor(text)
        return made[0] if isinstance(made, tuple) else made

    def weighted(text, count=0):
        return torch.cat([emphasis(t, e, text, count) for t, e in zip(tokenizers, encode)], dim=-1)

    for syntax, prompts in (("compel", COMPEL), ("emphasis", EMPHASIS)):
        for index, prompt in enumerate(prompts):
            tensors[f"{name}.{syntax}.{index}"] = compel(prompt) if syntax == "compel" else weighted(prompt)
    for syntax, first, second in PAIRS:
        long, short = [(COMPEL if syntax == "compel" else EMPHASIS)[i] for i in (first, second)]
        if syntax == "compel":
            pair = [compel(long), compel(short)]
            while pair[1].shape[1] < pair[0].shape[1]:
                pair[1] = torch.cat([pair[1], compel("")], dim=1)
        else:
            pair = [weighted(long), weighted(short, len(chunks(tokenizers[0], long)))]
        tensors[f"{name}.{syntax}.pair"] = torch.cat(pair)


def main():
    warnings.filterwarnings("ignore")
    tensors = {}
    for name in ("tiny-sd", "tiny-sdxl"):
        record(name, tensors)
    write_tensors("prompts.safetensors", tensors)
    write_json("prompts.json", {"compel": COMPEL, "emphasis": EMPHASIS, "pairs": [list(pair) for pair in PAIRS]})


if __name__ == "__main__":
    main()
