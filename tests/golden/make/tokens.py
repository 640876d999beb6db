"""Makes `tokens.json`: what transformers' CLIPTokenizer makes of odd strings, with the demo model's vocabulary."""

from common import SHAPES, write_json
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

TEXTS = [
    "",
    " ",
    "a red circle on a blue background",
    "A RED Circle ON a Blue BACKGROUND",
    "a large yellow star, on a black background.",
    "two  spaces   and\ttabs\nand lines",
    "  leading and trailing  ",
    "don't you've I'm we'll they'd it's we're",
    "DON'T IT'S",
    "'s 't 'hello' \"quoted\"",
    "12345 3d 4k 1.5 2026-11-20",
    "red,green;blue:yellow!?",
    "(circle:1.3) [square] {ring} <star> </w>",
    "!!!...---###",
    "naïve café crème brûlée",
    "nai\u0308ve cafe\u0301",
    "ÅNGSTRÖM İstanbul STRASSE straße ÉCOLE",
    "红色的圆圈在蓝色背景上",
    "赤い丸 青い背景",
    "빨간 동그라미",
    "красный круг",
    "κόκκινος ΚΎΚΛΟΣ",
    "دائرة حمراء",
    "🔴🟦 a 🐈 cat 👩‍🚀",
    "a\u00a0non\u2003breaking\u3000space",
    "zero\u200bwidth\u200djoiner \ufeff",
    "½ ² Ⅷ ٣",
    "<|startoftext|> a cat <|endoftext|> dog",
    "<|EndOfText|> upper",
    "supercalifragilisticexpialidocious_under_score",
    "http://example.com/a?b=c&d=e#f",
    "a\x00b \x07 \x7f",
    "red " * 75,
    "red " * 76,
    "a large red circle, " * 40,
    "x" * 300,
]


def main():
    tokenizer = CLIPTokenizer.from_pretrained(SHAPES / "tokenizer")
    stored = Tokenizer.from_file(str(SHAPES / "tokenizer" / "tokenizer.json"))
    stored.no_truncation()
    stored.no_padding()
    rows = []
    for text in TEXTS:
        whole = tokenizer(text, truncation=False).input_ids
        padded = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert len(padded) == 77
        # The file a Rust program would read must say the same as the class diffusers uses.
        assert stored.encode(text).ids == whole, text
        ids = whole if len(whole) <= 77 else padded
        assert padded == ids + [tokenizer.pad_token_id] * (77 - len(ids))
        rows.append({"text": text, "length": len(whole), "ids": ids})
    fixed = {"length": 77, "start": tokenizer.bos_token_id, "end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    write_json("tokens.json", {"fixed": fixed, "rows": rows})


if __name__ == "__main__":
    main()
