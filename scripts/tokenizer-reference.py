#!/usr/bin/env python3
"""Trains tiny tokenizers of every kind that the worker reads, and records what the tokenizers library makes of texts with all
that goes wrong, for the tests in runtime/tests/tokenizer_json.rs. Needs the package tokenizers (0.23.3).

usage: tokenizer-reference.py >tests/golden/tokenizers.json
"""

import json
import random
import sys

from tokenizers import Tokenizer, models, trainers, pre_tokenizers, decoders, normalizers, processors, AddedToken, Regex

CORPUS = (
    "The quick brown fox jumps over the lazy dog. It's what we'll do: I'd say they've 1234 apples, 56 pears and 7 figs.\n"
    "def main():\n    return {'a': 1, \"b\": [2, 3]}  # a comment\n\n\tprint('hello world, hello there, HELLO')\n"
    "Größe, naïve café, señor; Привет, мир! Это проверка. 你好世界，这是一个测试。こんにちは世界。안녕하세요 👩‍🚀🚀✅ "
    "the then there these other another mother brother whether weather in an on and hand sand land " * 3 + "\n"
) * 4
TEXTS = [
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n \n x",
    "Hello world",
    " Hello",
    "  Hello",
    "Hello  ",
    "hello   there\n\n  indented\n\ttab",
    "It's we'll I'D they'VE 'ſ '’s",
    "a1b22c333d4444 ²³¹¼Ⅷ٣",
    "<|end|>",
    "x<|end|> y",
    "x <|end|>  y<|end|><|start|>user",
    "<|START|>",
    "<s>",
    "</s>a",
    "a</s> b <s>c",
    "<0x0A>",
    "<unk>",
    "▁",
    "a▁b ▁ c",
    "café cafe\u0301 e\u0301\u0323",
    "\u00a0nbsp\u2003em\u3000ideographic",
    "你好世界，这是一个测试。",
    "こんにちは世界 안녕하세요",
    "👩‍🚀🚀✅ 😀",
    "\u0000\u0001\u007f\u0080\u009f",
    "\ufeffbom\ufffd",
    "𝔘𝔫𝔦 ﬁ ½ Å",
    "HTTPServer camelCase snake_case kebab-case a/b/c",
    "    four\n        eight",
    "x=1;y+=2//z",
    "...!!!???",
    "a" * 33,
    " " * 40,
    "word" * 9,
    "\n" * 9,
    "tool tooltip  tool",
    "  tool  ",
    "foo_tool",
    "(tool)",
    "[MASK] x [MASK]",
    " [MASK]  [MASK]y",
    "Привет, мир!",
    "naïve Größe",
    "éé ee\u0301",
    "\U0010ffff",
    "\u200b\u200d",
    "a zyzzyva zyzzyva",
]
rnd = random.Random(7)
pool = list(" \n\t'123sStTdD.,-éſ字▁👩\u0301\u00a0<>|abc") + ["<|end|>", "<s>", "</s>", "the", "tool"]
TEXTS += ["".join(rnd.choice(pool) for _ in range(rnd.randrange(1, 40))) for _ in range(30)]
RECORDS = {}


def record(name, tok):
    """Ids of each text, of those in which control tokens are text where that makes others, and the tokens around a text."""
    ids, as_text = [], {}
    around = tok.encode("").ids
    for i, t in enumerate(TEXTS):
        plain = tok.encode(t, add_special_tokens=False).ids
        assert tok.encode(t).ids == around + plain
        tok.encode_special_tokens = True
        untrusted = tok.encode(t, add_special_tokens=False).ids
        tok.encode_special_tokens = False
        ids.append(plain)
        if untrusted != plain:
            as_text[i] = untrusted
    RECORDS[name] = {"prefix": around, "ids": ids, "untrusted": as_text, "tokenizer": json.loads(tok.to_str())}


def train_bytes(pre, size=440, special=("<|end|>", "<|start|>")):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(special),
            show_progress=False,
        ),
    )
    return t


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
split = lambda r, b="isolated", i=False: pre_tokenizers.Split(Regex(r), b, i)
BL = lambda p=False, r=False: pre_tokenizers.ByteLevel(add_prefix_space=p, use_regex=r)
# gpt2
record("gpt2", train_bytes(BL(False, True)))
# llama 3: whole words, a template with BOS
t = train_bytes(pre_tokenizers.Sequence([split(LLAMA3), BL()]))
d = json.loads(t.to_str())
d["model"]["ignore_merges"] = True
# a whole word that merges do not make
v = d["model"]["vocab"]
v["Ġzyzzyva"] = len(v)
t = Tokenizer.from_str(json.dumps(d))
t.post_processor = processors.Sequence(
    [
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 1)]),
    ]
)
record("llama3", t)
# qwen: NFC, tokens added that are text
t = train_bytes(pre_tokenizers.Sequence([split(LLAMA3.replace("{1,3}", "")), BL()]))
t.normalizer = normalizers.NFC()
t.add_tokens([AddedToken("tool", normalized=True, single_word=True), AddedToken("é", normalized=True)])
t.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
record("qwen2", t)
# gpt-4o
record("o200k", train_bytes(pre_tokenizers.Sequence([split(O200K), BL()])))
# smollm / starcoder
record("digits", train_bytes(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BL(False, True)])))
# deepseek-like: several splits, digits together, a prefix space missing
t = train_bytes(
    pre_tokenizers.Sequence(
        [
            split(r"[\r\n]"),
            split(r"\s?\p{L}+"),
            split(r"\s?\p{P}+"),
            split(r"[\x{4E00}-\x{9FA5}]+"),
            pre_tokenizers.Digits(individual_digits=False),
            BL(),
        ]
    )
)
record("deepseek", t)
# roberta-like prefix space
record("prefix", train_bytes(BL(True, True)))
# odd behaviours
for b in ["removed", "merged_with_previous", "merged_with_next", "contiguous"]:
    record("split_" + b, train_bytes(pre_tokenizers.Sequence([split(r"[\s\p{P}]", b), BL()]), 400))
record(
    "split_invert",
    train_bytes(pre_tokenizers.Sequence([split(LLAMA3, "removed", True), pre_tokenizers.Punctuation(), BL()]), 400),
)


# SentencePiece-like BPE with byte fallback
def train_spm(size=420, **more):
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(
        [
            "The quick brown fox jumps over the lazy dog. hello world there then other another mother weather tool 123 café "
            * 3
        ],
        trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"] + bytes_, show_progress=False),
    )
    d = json.loads(t.to_str())
    d["added_tokens"] = [a for a in d["added_tokens"] if a["id"] < 3]
    return d


def spm(d, **k):
    t = Tokenizer.from_str(json.dumps(d))
    return t


dec = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
tmpl = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
d = train_spm()
t = spm(d)
t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
t.pre_tokenizer = None
t.decoder = dec
t.post_processor = tmpl
record("llama2", t)
# as Phi-3: added tokens that strip
t.add_special_tokens(
    [AddedToken("<|end|>", rstrip=True, normalized=False), AddedToken("<|start|>", rstrip=True, normalized=False)]
)
record("phi3", t)
# older: special tokens that are looked for in normalized text
d2 = json.loads(t.to_str())
for a in d2["added_tokens"]:
    a["normalized"] = True
record("normalized", spm(d2))
# Metaspace, at the beginning only, whole
t = spm(d)
t.normalizer = None
t.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
t.decoder = dec
t.post_processor = tmpl
record("mistral", t)
t = spm(d)
t.normalizer = normalizers.NFKC()
t.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁")])
record("metaspace", t)
# gemma: no prefix
t = spm(d)
t.normalizer = normalizers.Replace(" ", "▁")
t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
record("gemma", t)
# no bytes to fall back to: unknown, fused and not
for fuse in (True, False):
    dd = json.loads(json.dumps(d))
    dd["model"]["byte_fallback"] = False
    dd["model"]["fuse_unk"] = fuse
    t = spm(dd)
    t.normalizer = normalizers.Replace(" ", "▁")
    t.pre_tokenizer = None
    t.decoder = decoders.Replace("▁", " ")
    record("unknown_fused" if fuse else "unknown", t)
json.dump({"texts": TEXTS, "tokenizers": RECORDS}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
print()
