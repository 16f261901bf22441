#!/usr/bin/env python3
"""Writes the hand-made part of the corpus: small files, right ones and nasty ones. Needs nothing but Python."""

import json
import math
import struct
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(ty, value):
    return string(value) if ty == STRING else struct.pack("<" + FORMATS[ty], value)


def key(name, ty, value):
    return string(name) + struct.pack("<I", ty) + scalar(ty, value)


def array(name, ty, values):
    return string(name) + struct.pack("<IIQ", ARRAY, ty, len(values)) + b"".join(scalar(ty, value) for value in values)


def raw(name, ty, value):
    return string(name) + struct.pack("<I", ty) + value


def tensor(name, dims, ty, offset):
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, ty, offset)


def gguf(keys=(), tensors=(), data=0, version=3, counts=None):
    count = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, *count) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(i % 251 for i in range(data))


def llama(*more):
    return [key("general.architecture", STRING, "llama"), key("llama.embedding_length", U32, 32),
            key("llama.block_count", U32, 1), key("llama.feed_forward_length", U32, 32),
            key("llama.attention.head_count", U32, 2), key("llama.attention.head_count_kv", U32, 1),
            key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), key("llama.context_length", U32, 64), *more]


def vocabulary(model="gpt2", pre="smollm", tokens=None, merges=("a b", "ab c"), **options):
    tokens = tokens or [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ", "ab", "abc", "<s>", "</s>"]
    kinds = [3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens]
    keys = [key("tokenizer.ggml.model", STRING, model), key("tokenizer.ggml.pre", STRING, pre),
            array("tokenizer.ggml.tokens", STRING, tokens), array("tokenizer.ggml.token_type", I32, kinds),
            array("tokenizer.ggml.merges", STRING, merges),
            key("tokenizer.ggml.bos_token_id", U32, len(tokens) - 2), key("tokenizer.ggml.eos_token_id", U32, len(tokens) - 1)]
    if model == "llama":
        keys.append(array("tokenizer.ggml.scores", F32, [-float(i) for i in range(len(tokens))]))
    return keys + [key("tokenizer.ggml." + name, BOOL, value) for name, value in options.items()]


def write(target, files):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


EMBEDDING = tensor("token_embd.weight", [32, 4], 0, 0)
ONE = [tensor("t", [32], 0, 0)]
# Values and bytes of a block, by type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2), 39: (32, 17)}


def of_type(ty):
    values, size = BLOCKS[ty]
    rows = 3
    size = size * rows if values > 1 else size * 32 * rows
    return gguf([], [tensor("w", [max(values, 32), rows], ty, 0)], size)


write("gguf", {
    "llama": gguf(llama(), [EMBEDDING], 512),
    "version-2": gguf(llama(), [EMBEDDING], 512, version=2),
    "vocabulary": gguf(llama() + vocabulary(), [EMBEDDING], 512),
    **{f"type-{ty}": of_type(ty) for ty in BLOCKS},
    "every-scalar": gguf([key(f"s{ty}", ty, "text" if ty == STRING else 1) for ty in FORMATS] + [key("s", STRING, "é\n\x1b[2J")]),
    "every-array": gguf([array(f"a{ty}", ty, [1, 0, 1]) for ty in FORMATS] + [array("a", STRING, ["", "x", "é"])]),
    "nested": gguf([raw("n", ARRAY, struct.pack("<IQ", ARRAY, 2) + 2 * (struct.pack("<IQ", U8, 3) + b"abc"))]),
    "too-deep": gguf([raw("n", ARRAY, struct.pack("<IQ", ARRAY, 1) * 40)]),
    "aligned-64": gguf([key("general.alignment", U32, 64)], [tensor("t", [8], 24, 64)], 256),
    "alignment-0": gguf([key("general.alignment", U32, 0)], ONE, 128),
    "alignment-huge": gguf([key("general.alignment", U64, 1 << 63)], ONE, 128),
    "counts-absurd": gguf(llama(), [EMBEDDING], 512, counts=(2**64 - 1, 2**64 - 1)),
    "keys-absurd": gguf(llama(), [EMBEDDING], 512, counts=(1, 2**62)),
    "string-of-a-gigabyte": gguf([raw("s", STRING, struct.pack("<Q", 1 << 30))]),
    "string-wraps": gguf([raw("s", STRING, struct.pack("<Q", 2**64 - 1))]),
    "array-wraps": gguf([raw("a", ARRAY, struct.pack("<IQ", U64, 2**61 + 1))]),
    "strings-absurd": gguf([raw("a", ARRAY, struct.pack("<IQ", STRING, 2**63))]),
    "key-twice": gguf([key("k", U32, 1), key("k", U32, 2)]),
    "tensor-twice": gguf([], ONE + [tensor("t", [32], 0, 128)], 256),
    "overlap": gguf([], [tensor("t", [64], 0, 0), tensor("u", [32], 0, 128)], 256),
    "same-place": gguf([], [tensor("t", [32], 0, 0), tensor("u", [32], 0, 0)], 128),
    "misaligned": gguf([], [tensor("t", [8], 0, 4)], 128),
    "past-the-end": gguf([], [tensor("t", [32], 0, 1 << 20)], 128),
    "offset-wraps": gguf([], [tensor("t", [32], 0, 2**64 - 32)], 128),
    "dims-wrap": gguf([], [tensor("t", [1 << 32, 1 << 32], 0, 0)], 128),
    "dims-wrap-in-bytes": gguf([], [tensor("t", [1 << 61, 2], 0, 0)], 128),
    "dims-none": gguf([], [tensor("t", [], 0, 0)], 128),
    "dims-five": gguf([], [tensor("t", [1] * 5, 0, 0)], 128),
    "dim-zero": gguf([], [tensor("t", [32, 0], 0, 0)], 128),
    "type-unknown": gguf([], [tensor("t", [32], 99, 0)], 128),
    "half-a-block": gguf([], [tensor("t", [33], 8, 0)], 128),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "zip": b"PK\x03\x04" + bytes(20),
    "cut": gguf(llama(), [EMBEDDING], 100),
})

write("tokenizer", {
    "smollm": gguf(vocabulary()),
    "llama-bpe": gguf(vocabulary(pre="llama-bpe", add_bos_token=True, add_eos_token=True)),
    "qwen2": gguf(vocabulary(pre="qwen2")),
    "gpt-2": gguf(vocabulary(pre="gpt-2", merges=())),
    "gpt-4o": gguf(vocabulary(pre="gpt-4o")),
    "spm": gguf(vocabulary(model="llama", tokens=["<unk>", "▁", "a", "▁a", "b", "ab", "<0x41>", "<s>", "</s>"])),
    "unknown-model": gguf(vocabulary(model="bert")),
    "unknown-pre": gguf(vocabulary(pre="none")),
    "merge-of-nothing": gguf(vocabulary(merges=("zzz q", "a", " ", "a b c"))),
    "tokens-twice": gguf(vocabulary(tokens=["a", "a", "b", "<s>", "</s>"])),
    "tokens-none": gguf(vocabulary(tokens=["<s>", "</s>"], merges=())),
    "token-empty": gguf(vocabulary(tokens=["", "a", "<s>", "</s>"], merges=())),
    "not-of-the-alphabet": gguf(vocabulary(tokens=["é漢", " ", "<s>", "</s>"], merges=())),
    "eos-outside": gguf(vocabulary() + [key("tokenizer.ggml.eot_token_id", U32, 2**32 - 1)]),
})

write("text", {
    "english": "Once upon a time, there's 1234 of it:  \n\n\tthe end.\r\n",
    "special": "<s>[INST] <<SYS>> </s><|im_start|>user<|im_end|>",
    "letters": "naïve Straße ǅ İstanbul ﬀ ﷽ e\u0301\u0302\u0303 \u200d\u200b",
    "scripts": "漢字かな交じり文 한국어 العربية ไทย हिन्दी",
    "signs": "👩‍🚀👨‍👩‍👧‍👦 ½²³ ∑∫ $€ …—–",
    "bytes": bytes(range(256)),
    "spaces": " " * 40 + "\n" * 20 + "\t \t" * 5,
    "repeats": "ababab" * 50,
})


def chat(source, messages=None):
    messages = messages or [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
                            {"role": "assistant", "content": "Hello <b>"}, {"role": "user", "content": "é\n"}]
    return source + "\0" + json.dumps(messages)


TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "refuses": "{% if messages[0].role != 'user' %}{{ raise_exception('no system ' ~ messages[0].role) }}{% endif %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ loop.index0 }}{{ ns.n }}{% endfor %}",
    "macro": "{% macro f(x, y=1) %}{{ x }}{{ caller is defined }}{% endmacro %}{{ f(bos_token) }}{{ f(messages|length, y=2) }}",
    "filters": "{{ messages|tojson }}{{ 'a b'.split(' ')|join('-')|upper|trim }}{{ messages|map(attribute='role')|list }}",
    "methods": "{% for m in messages %}{{ m.content.strip().replace('e', 'E').title().startswith('H') }}{{ m.items()|list }}{% endfor %}",
    "date": "{{ strftime_now('%d %B %Y %j %H:%M:%S %Z %%') }}",
    "slices": "{% set messages = messages[1:] %}{{ messages[::-1] }}{{ 'abcdef'[1:-1] }}{{ messages[-1]['content'][:2] }}",
    "control": "{%- for m in messages -%}{%- if loop.first -%}{% continue %}{%- elif m.role == 'user' -%}{% break %}{%- endif -%}{%- endfor -%}",
    "generation": "{% generation %}{{ messages }}{% endgeneration %}",
    "numbers": "{{ 7 // 2 }}{{ -7 % 3 }}{{ 2 ** 62 }}{{ 1 / 3 }}{{ 9223372036854775807 + 1 }}{{ range(5)|list }}{{ 1e308 * 10 }}",
    "endless": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "grows": "{% set ns = namespace(t='x') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
    "repeats": "{{ 'x' * 1000000000 }}{{ [0] * 1000000000 }}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "loads": "{% include 'other' %}{% import '/etc/passwd' as p %}{% extends messages %}",
    "deep": "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "brackets": "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "broken": "{% for %}{{ }} {% endif",
    "indent": "{{ ('a\nb'|indent(1000000000)) }}{{ 'a'|center(1000000000) }}{{ '%1000000000d'|format(1) }}",
}
write("template", {name: chat(source) for name, source in TEMPLATES.items()})
write("template", {
    "no-messages": chat(TEMPLATES["chatml"], []),
    "odd-messages": TEMPLATES["chatml"] + "\0" + '[{"role": 1, "content": [{"type": "text", "text": null}]}, 7, null, "x"]',
    "only-text": TEMPLATES["chatml"] + "\0" + "just text",
})


def safetensors(tensors, head=None):
    """Tensors as (name, type, shape, bytes)."""
    described, at = {}, 0
    for name, ty, shape, size in tensors:
        described[name] = {"dtype": ty, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head if head is not None else described).encode()
    return struct.pack("<Q", len(text)) + text + bytes(i % 61 for i in range(at))


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 32,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 4, "hidden_act": "silu",
          "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
          "torch_dtype": "bfloat16"}
LAYER = "model.layers.0."
LLAMA = [("model.embed_tokens.weight", "BF16", [4, 32], 256), ("model.norm.weight", "BF16", [32], 64),
         (LAYER + "input_layernorm.weight", "BF16", [32], 64), (LAYER + "post_attention_layernorm.weight", "BF16", [32], 64),
         (LAYER + "self_attn.q_proj.weight", "BF16", [32, 32], 2048), (LAYER + "self_attn.k_proj.weight", "BF16", [16, 32], 1024),
         (LAYER + "self_attn.v_proj.weight", "BF16", [16, 32], 1024), (LAYER + "self_attn.o_proj.weight", "BF16", [32, 32], 2048),
         (LAYER + "mlp.gate_proj.weight", "BF16", [32, 32], 2048), (LAYER + "mlp.up_proj.weight", "BF16", [32, 32], 2048),
         (LAYER + "mlp.down_proj.weight", "BF16", [32, 32], 2048)]

EXPERTS = LAYER + "mlp.experts."
GPT_OSS = CONFIG | {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 2,
                    "num_experts_per_tok": 1, "sliding_window": 16, "layer_types": ["sliding_attention"], "swiglu_limit": 7.0,
                    "quantization_config": {"quant_method": "mxfp4"},
                    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 32, "truncate": False}}
BIASED = [(name, ty, shape, size) for name, ty, shape, size in LLAMA if ".mlp." not in name] + [
    (LAYER + "self_attn.q_proj.bias", "BF16", [32], 64), (LAYER + "self_attn.k_proj.bias", "BF16", [16], 32),
    (LAYER + "self_attn.v_proj.bias", "BF16", [16], 32), (LAYER + "self_attn.o_proj.bias", "BF16", [32], 64),
    (LAYER + "self_attn.sinks", "BF16", [2], 4), (LAYER + "mlp.router.weight", "BF16", [2, 32], 128),
    (LAYER + "mlp.router.bias", "BF16", [2], 4), (EXPERTS + "gate_up_proj_bias", "BF16", [2, 64], 256),
    (EXPERTS + "down_proj_bias", "BF16", [2, 32], 128)]
PACKED = [(EXPERTS + "gate_up_proj_blocks", "U8", [2, 64, 1, 16], 2048), (EXPERTS + "gate_up_proj_scales", "U8", [2, 64, 1], 128),
          (EXPERTS + "down_proj_blocks", "U8", [2, 32, 1, 16], 1024), (EXPERTS + "down_proj_scales", "U8", [2, 32, 1], 64)]
PLAIN = [(EXPERTS + "gate_up_proj", "BF16", [2, 32, 64], 8192), (EXPERTS + "down_proj", "BF16", [2, 32, 32], 4096)]


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"
FILES = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja", INDEX, *SHARDS,
         "model.safetensors"]


def files(contents, quant=0):
    """A folder of files by their names, those that are no bytes as JSON."""
    contents = {name: value if isinstance(value, bytes) else json.dumps(value).encode() for name, value in contents.items()}
    return bytes([quant]) + b"\0/\0".join(contents.get(name, b"") for name in FILES)


def folder(config, weights, quant=0):
    return files({"config.json": config, "model.safetensors": weights}, quant)


def sharded(tensors, change=None, quant=0, **more):
    """Tensors in two files by turns, and an index with changes."""
    weight_map = {tensor[0]: SHARDS[i % 2] for i, tensor in enumerate(tensors)} | (change or {})
    weights = {SHARDS[i]: safetensors(tensors[i::2]) for i in (0, 1)}
    return files({"config.json": CONFIG, INDEX: {"metadata": {"total_size": 1}, "weight_map": weight_map}} | weights | more, quant)


# Smaller, so that the fuzzer takes them whole.
HALVED = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 2}


def halved(shape):
    return [dim // 2 for dim in shape]


def of_one_expert(tensors):
    one = [(name, ty, [1, *shape[1:]] if ".mlp." in name else shape) for name, ty, shape, _ in tensors]
    return [(name, ty, shape, 2 * math.prod(shape)) for name, ty, shape in one]


SCALED = {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 32}}
TWO = [("a", "F32", [8], 32), ("b", "F16", [4, 2], 16)]


def one(begin, end, **more):
    return {"t": {"dtype": "F32", "shape": [8], "data_offsets": [begin, end], **more}}


write("safetensors", {
    "llama": folder(CONFIG, safetensors(LLAMA)),
    "llama-q8_0": folder(CONFIG, safetensors(LLAMA), 1),
    "llama-q4_0": folder(CONFIG, safetensors(LLAMA), 2),
    "f16": folder(CONFIG, safetensors([(name, "F16", shape, size) for name, _, shape, size in LLAMA])),
    "f32": folder(CONFIG | HALVED, safetensors([(name, "F32", halved(shape), 4 * math.prod(halved(shape))) for name, _, shape, _ in LLAMA])),
    "scaled": folder(CONFIG | SCALED, safetensors(LLAMA)),
    "scaled-absurd": folder(CONFIG | SCALED | {"hidden_size": 2**20, "num_attention_heads": 1}, safetensors(TWO)),
    "activation-of-two-lines": folder({"model_type": "gpt2", "n_embd": 32, "n_head": 2, "activation_function": "a\nb"}, safetensors(TWO)),
    "gpt-oss-mxfp4": folder(GPT_OSS, safetensors(BIASED + PACKED)),
    "gpt-oss-q8_0": folder(GPT_OSS | {"quantization_config": None, "num_local_experts": 1}, safetensors(of_one_expert(BIASED + PLAIN)), 1),
    "blocks-absurd": folder(CONFIG | {"num_hidden_layers": 2**63}, safetensors(LLAMA)),
    "sizes-absurd": folder(CONFIG | {"hidden_size": 2**62, "num_attention_heads": 0}, safetensors(LLAMA)),
    "head-absurd": folder(CONFIG, struct.pack("<Q", 2**64 - 1) + b"{}"),
    "head-of-a-gigabyte": folder(CONFIG, struct.pack("<Q", 1 << 30) + b"{}"),
    "overlap": folder(CONFIG, safetensors([("a", "F32", [8], 32)], one(0, 32) | {"u": one(16, 48)["t"]})),
    "past-the-end": folder(CONFIG, safetensors([], one(0, 2**62))),
    "backwards": folder(CONFIG, safetensors([("a", "F32", [8], 32)], one(32, 0))),
    "shape-wraps": folder(CONFIG, safetensors([], one(0, 0, shape=[2**32, 2**32]))),
    "deep": folder(CONFIG, struct.pack("<Q", 400) + b"[" * 400),
    "twice": folder(CONFIG, struct.pack("<Q", 130) + (json.dumps(one(0, 32))[:-1] + ", " + json.dumps(one(0, 32))[1:]).encode().ljust(130) + bytes(32)),
    "type-unknown": folder(CONFIG, safetensors([("a", "F32", [8], 32)], one(0, 32, dtype="F3"))),
    "type-of-two-lines": folder(CONFIG, safetensors([("a", "F32", [8], 32)], one(0, 32, dtype="F\n3"))),
    "sharded": sharded(LLAMA),
    "sharded-q8_0": sharded(LLAMA, quant=1),
    "shard-missing": files({"config.json": CONFIG, INDEX: {"weight_map": {"a": SHARDS[0]}}}),
    "shard-of-two-lines": files({"config.json": CONFIG, INDEX: {"weight_map": {"a": "a\nb.safetensors"}}}),
    "shard-outside": sharded(TWO, {"a": "../a.safetensors"}),
    "shard-wrong": sharded(TWO, {"a": SHARDS[1]}),
    "shard-twice": sharded([("a", "F32", [8], 32), ("a", "F32", [8], 32)]),
    "index-too-long": sharded(TWO, {"c": SHARDS[0]}),
    "index-of-one": files({"config.json": CONFIG, INDEX: {"weight_map": {"a": "model.safetensors"}}, "model.safetensors": safetensors(TWO)}),
    "index-beside-one": sharded(TWO, **{"model.safetensors": safetensors(TWO)}),
    "index-empty": files({"config.json": CONFIG, INDEX: {"weight_map": {}}}),
})


def vocabulary_json(**more):
    tokens = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ", "ab", "abc"]
    model = {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": ["a b", "ab c"]}
    added = [{"id": len(tokens) + i, "content": text, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i, text in enumerate(["<s>", "</s>"])]
    plain = {"version": "1.0", "added_tokens": added, "normalizer": None, "decoder": {"type": "ByteLevel"},
             "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "post_processor": None, "model": model}
    return json.dumps(plain | more, ensure_ascii=False)


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}


write("tokenizer_json", {
    "byte-level": vocabulary_json(),
    "split": vocabulary_json(pre_tokenizer=split("(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+")),
    "split-bomb": vocabulary_json(pre_tokenizer=split("((a{1,1000}){1,1000}){1,1000}")),
    "splits-many": vocabulary_json(pre_tokenizer={"type": "Sequence", "pretokenizers": 17 * split("\\p{N}{9}")["pretokenizers"][:1]}),
    "split-broken": vocabulary_json(pre_tokenizer=split("(")),
    "metaspace": vocabulary_json(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
                                 decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                                           {"type": "ByteFallback"}, {"type": "Fuse"}]}),
    "normalized": vocabulary_json(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"},
                                                                                  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}),
    "grows": vocabulary_json(normalizer={"type": "Sequence", "normalizers": 60 * [
        {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}]}),
    "template-grows": vocabulary_json(post_processor={"type": "TemplateProcessing", "single": 100 * [{"SpecialToken": {"id": "a", "type_id": 0}}] + [
        {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"a": {"id": "a", "ids": 500 * [1], "tokens": []}}}),
    "template": vocabulary_json(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [98], "tokens": ["<s>"]}}}),
    "unigram": vocabulary_json(model={"type": "Unigram", "vocab": [["a", -1.0]]}),
    "ids-absurd": vocabulary_json(model={"type": "BPE", "vocab": {"a": 2**32 - 1, "b": 0}, "merges": []}),
    "ids-twice": vocabulary_json(model={"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}),
    "merge-pairs": vocabulary_json(model={"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"], ["a", "z"]]}),
    "deep": "[" * 300,
    "nothing": "{}",
})

SETTINGS = {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False},
            "unk_token": None, "chat_template": TEMPLATES["chatml"], "added_tokens_decoder": {"100": {
                "content": "<|x|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}}}


def settings(tokenizer=None, generation=None, **more):
    """A folder without weights."""
    return files({"config.json": {"eos_token_id": 99}, "generation_config.json": generation or {"eos_token_id": [99, 98]},
                  "tokenizer_config.json": tokenizer or SETTINGS, "tokenizer.json": vocabulary_json().encode()} | more)


write("safetensors", {
    "settings": settings(),
    "settings-templates": settings(SETTINGS | {"chat_template": [{"name": "tool_use", "template": "t"},
                                                                 {"name": "default", "template": TEMPLATES["chatml"]}]}),
    "settings-template": settings(**{"chat_template.jinja": TEMPLATES["chatml"].encode()}),
    "settings-template-broken": settings(**{"chat_template.jinja": TEMPLATES["broken"].encode()}),
    "settings-template-no-text": settings(**{"chat_template.jinja": b"\xff\xfe"}),
    "settings-wrong-types": settings({"add_bos_token": 1, "bos_token": [], "chat_template": {}, "added_tokens_decoder": {"a": 1}}),
    "settings-added-wrong": settings({"added_tokens_decoder": {"100": {"content": 1, "a\nb": 2}}}),
    "settings-added-far": settings(SETTINGS | {"added_tokens_decoder": {str(2**32 - 1): {"content": "x"}}}),
    "settings-bos-nowhere": settings(SETTINGS | {"bos_token": "nowhere"}),
    "settings-eos-outside": settings(generation={"eos_token_id": [2**32 - 1]}),
    "settings-eos-wrong": settings(generation={"eos_token_id": [-1, "a", [[]]]}),
    "settings-list": settings(generation=[1]),
    "settings-twice": settings(**{"tokenizer_config.json": b'{"a": 1, "a": 2}'}),
})

MESSAGES = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}, {"role": "assistant"}]
write("request", {name: json.dumps(body) for name, body in {
    "execute": {"job_id": "1", "prompt": "a", "max_tokens": 4, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1,
                "repetition_penalty": 1.1, "seed": 18446744073709551615, "stop": ["x", "yy"]},
    "cancel": {"job_id": "1"},
    "chat": {"model": "model", "messages": MESSAGES, "max_completion_tokens": 3, "stream": True, "n": 2, "logprobs": True, "top_logprobs": 3,
             "stream_options": {"include_usage": True}, "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"5": -100, "6": 2.5}},
    "completions": {"model": "model", "prompt": ["a", [1, 2, 3]], "echo": True, "stop": "x", "min_tokens": 1, "ignore_eos": True, "suffix": ""},
    "wrong-types": {"job_id": 1, "prompt": {}, "max_tokens": -1, "temperature": "hot", "stop": [1], "seed": 1e400 if False else 1e308, "messages": 7},
    "unknown": {"job_id": "1", "prompt": "a", "no_such_field": [[[[]]]]},
}.items()} | {"deep": "[" * 500, "number": '{"seed": 1e999999, "top_k": -0.0, "max_tokens": 99999999999999999999999}', "twice": '{"job_id": "a", "job_id": "b"}',
              "surrogates": '{"prompt": "\\ud83d\\ude00 \\ud800", "job_id": "1"}'})
