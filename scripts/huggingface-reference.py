#!/usr/bin/env python3
"""Makes the Hugging Face folders of tests/golden: tiny random models, and what the transformers library computes of them.

    pip install torch transformers safetensors
    python scripts/huggingface-reference.py tests/golden

Writes a folder hf-NAME for each architecture, as save_pretrained does, with reference.json beside the model: prompts of
token ids, and the logits after the last of them, computed in f64 (norms and angles in f32, as the library has them) from
the weights as they are stored. hf-llama and hf-qwen2 have a tokenizer and a chat template too, and texts with their ids.
"""
import base64
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB, HIDDEN, INNER, LAYERS, HEADS, KV, CONTEXT = 272, 32, 64, 2, 2, 1, 128
GATED = dict(vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
             num_attention_heads=HEADS, num_key_value_heads=KV, max_position_embeddings=CONTEXT,
             bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1, pad_token_id=None)

MODELS = {
    "llama": (transformers.LlamaConfig, torch.bfloat16, dict(
        GATED, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=32))),
    "mistral": (transformers.MistralConfig, torch.float16, dict(
        GATED, head_dim=32, tie_word_embeddings=False, sliding_window=16,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen2": (transformers.Qwen2Config, torch.float16, dict(
        GATED, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "qwen3": (transformers.Qwen3Config, torch.bfloat16, dict(
        GATED, head_dim=32, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                             original_max_position_embeddings=32))),
    "phi3": (transformers.Phi3Config, torch.bfloat16, dict(
        GATED, tie_word_embeddings=True, original_max_position_embeddings=32,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                             short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                             long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0]))),
    "gpt2": (transformers.GPT2Config, torch.bfloat16, dict(
        vocab_size=VOCAB, n_embd=HIDDEN, n_inner=INNER, n_layer=LAYERS, n_head=HEADS, n_positions=CONTEXT,
        bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1)),
}

TEXT = """Many people count the stones along the river, and the stones count the people. A small model of the river needs
a small river; the answer to a question about stones is in the counting of the stones, one by one, again and again."""
TEXTS = ["Count the stones.", " again  and again\n\n", "r\u00e9sum\u00e9 \u4f60\u597d \U0001f600", "<s>a question</s>, 12345"]
CHAT = ("{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}")
MESSAGES = [{"role": "user", "content": "Count the stones."}, {"role": "assistant", "content": "One, two."},
            {"role": "user", "content": "Again"}]


def b64(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def draw(model, seed):
    """Weights that make logits differ, biases and norms that matter."""
    draws = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=draws)
        if weight.dim() == 1:
            is_norm = name.endswith("weight")
            weight.data = 1 + 0.25 * noise if is_norm else 0.3 * noise
        else:
            # GPT-2's own layers have their inputs first.
            inputs = weight.shape[0] if ".c_" in name else weight.shape[1]
            gain = 0.3 if "wpe" in name else 1.0 if "embed" in name or "wte" in name else 1.2 / inputs ** 0.5
            weight.data = gain * noise


def prompts(name, context):
    draws = np.random.default_rng(sum(name.encode()))
    return [draws.integers(0, VOCAB, length).tolist() for length in (5, 24, context)]


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().numpy()


def tokenizer(folder, template_in_file):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=VOCAB - 2, initial_alphabet=alphabet, special_tokens=[], show_progress=False))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False)
    fast.chat_template = CHAT
    fast.save_pretrained(folder, save_jinja_files=template_in_file)
    return dict(
        texts=[dict(text=text, ids=fast(text, add_special_tokens=False).input_ids) for text in TEXTS],
        messages=MESSAGES, prompt=fast.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True))


def make(golden, name, seed):
    config_class, dtype, settings = MODELS[name]
    folder = os.path.join(golden, f"hf-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_config(config_class(**settings))
    draw(model, seed)
    model = model.to(dtype).eval()
    # What ends a completion may be several tokens.
    model.generation_config.eos_token_id = [VOCAB - 1, 7] if name == "llama" else VOCAB - 1
    model.save_pretrained(folder, max_shard_size="60KB" if name == "llama" else "1GB")
    reference = dict(transformers=transformers.__version__, torch=torch.__version__)
    if name in ("llama", "qwen2"):
        reference.update(tokenizer(folder, template_in_file=name == "llama"))
    # As anybody would load it, so that what is computed from the settings is as exact as the weights.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager").eval()
    reference["prompts"] = [dict(ids=ids, logits_b64=b64(logits(model, ids))) for ids in prompts(name, 60)]
    with open(os.path.join(folder, "reference.json"), "w") as file:
        json.dump(reference, file)
    size = sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder))
    print(folder, size, sorted(os.listdir(folder)))


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for seed, name in enumerate(MODELS, 100):
        if len(sys.argv) < 3 or name in sys.argv[2:]:
            make(sys.argv[1], name, seed)
