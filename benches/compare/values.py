"""Random weights from a counter: any value of any tensor can be computed alone, in any language.

Value i of the tensor NAME, all in wrapping 64-bit arithmetic:

    seed = FNV-1a of NAME's UTF-8 bytes: h = 0xCBF29CE484222325; for each byte h = (h ^ byte) * 0x100000001B3
    z    = seed + (i + 1) * 0x9E3779B97F4A7C15                                        (SplitMix64)
    z    = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
    z    = (z ^ z >> 27) * 0x94D049BB133111EB
    z    = z ^ z >> 31
    v    = (z >> 40) / 2^23 - 1                                                       in [-1, 1), exact in f32
    w    = f16(f32(offset + factor * v)), the sum in f64, both roundings to nearest even

`tests/goldens/weights.py` and its twin `weights.rs` make v by the same formula; a test here compares them.

Offset and factor keep activations near unit variance, so that nothing overflows in f16:

    weights with 2 or 4 axes   0 and sqrt(3 / inputs of one output): variance 1 / inputs
      of embedding tables      0 and 0.5
      that make a picture      a fifth of that (3 outputs of a convolution), so that it stays near [0, 1]
    biases                     0 and 0.1; 0.5 and 0.1 where they make a picture
    weights of norms           1 and 0.1
"""

import math

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
# Values at a time: the working set stays in the cache.
CHUNK = 1 << 17
PICTURE_GAIN = 0.2

with np.errstate(over="ignore"):
    _STEPS = np.arange(1, CHUNK + 1, dtype=np.uint64) * np.uint64(GAMMA)


def seed(name):
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def values(name, start, count):
    """The values v of the indices start .. start + count, count <= CHUNK, as f32."""
    with np.errstate(over="ignore"):
        z = _STEPS[:count] + np.uint64((seed(name) + start * GAMMA) & MASK)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z ^= z >> np.uint64(shift)
            z *= np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def affine(name, shape):
    """(offset, factor) of the tensor `name`."""
    is_picture = len(shape) in (1, 4) and shape[0] == 3
    if len(shape) >= 2:
        if name.endswith("_embedding.weight"):
            return 0.0, 0.5
        factor = math.sqrt(3.0 / math.prod(shape[1:]))
        return 0.0, factor * PICTURE_GAIN if is_picture else factor
    if name.endswith(".bias"):
        return (0.5 if is_picture else 0.0), 0.1
    if not name.endswith(".weight"):
        raise ValueError(f"no rule for the tensor `{name}` of shape {shape}: expected .weight or .bias")
    return 1.0, 0.1


def chunks(name, shape):
    """The tensor `name` as little-endian f16 arrays of at most CHUNK values, in row-major order."""
    offset, factor = affine(name, shape)
    total = math.prod(shape)
    for start in range(0, total, CHUNK):
        v = values(name, start, min(CHUNK, total - start)).astype(np.float64)
        yield (offset + factor * v).astype(np.float32).astype("<f2")


def tensor(name, shape):
    """The whole tensor `name`, f16."""
    return np.concatenate(list(chunks(name, shape))).reshape(shape)
