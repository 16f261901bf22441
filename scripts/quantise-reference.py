#!/usr/bin/env python3
"""Quantises random and awkward blocks with GGUF's own Python library, for the tests of runtime/src/huggingface/encode.rs.

    pip install gguf
    python scripts/quantise-reference.py >tests/golden/quantise.json

For each type of values, base64 of: the values, their Q8_0 blocks, their Q4_0 blocks.
"""
import base64
import json

import numpy as np
from gguf import GGMLQuantizationType, quants


def b64(values):
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def blocks():
    draws = np.random.default_rng(7)
    scales = 10.0 ** draws.uniform(-9, 5, (96, 1))
    random = draws.standard_normal((96, 32)) * scales
    awkward = np.zeros((12, 32))
    awkward[1] = -0.0
    awkward[2, 5] = 1e-9                                    # a scale that is 0 in f16
    awkward[3] = np.arange(32) * 0.5 * 8                     # halves of the scale's steps
    awkward[3, 0] = 127 * 8
    awkward[4] = -awkward[3]
    awkward[5, 3], awkward[5, 9] = 2.0, -2.0                 # the first of two greatest
    awkward[6, 3], awkward[6, 9] = -2.0, 2.0
    awkward[7] = np.arange(32) / 2 - 8                       # halves of Q4_0's steps
    awkward[8] = 8 - np.arange(32) / 2
    awkward[9] = 6e4                                         # all alike
    awkward[10, 31] = -1e-30
    awkward[11] = 3.1e-5 * draws.standard_normal(32)         # a subnormal scale
    return np.concatenate([random, awkward]).astype(np.float32)


def bf16(values):
    bits = values.view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main():
    values = blocks()
    golden = {}
    with np.errstate(over="ignore"):
        halves = np.clip(values, -6e4, 6e4).astype(np.float16)
    wide = {"f32": (values, values), "f16": (halves, halves.astype(np.float32))}
    stored = bf16(values)
    wide["bf16"] = (stored, (stored.astype(np.uint32) << 16).view(np.float32))
    for name, (stored, exact) in wide.items():
        golden[name] = {"values": b64(stored)}
        for quant in ("Q8_0", "Q4_0"):
            with np.errstate(all="ignore"):
                golden[name][quant.lower()] = b64(quants.quantize(exact, GGMLQuantizationType[quant]))
    print(json.dumps(golden))


main()
