"""Seeded weights and inputs; weights.rs is the same in Rust, bit for bit. README.md defines both."""

import math

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
PICTURE_GAIN = 0.2


def seed(name: str) -> int:
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def values(name: str, count: int) -> np.ndarray:
    """f32 values in [-1, 1) of the indices 0..count: multiples of 2^-23, exact in f32."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed(name)) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def affine(name: str, shape) -> tuple[float, float]:
    """(offset, factor): a weight is f32(offset + factor * value), computed in f64."""
    picture = len(shape) in (1, 4) and shape[0] == 3
    if len(shape) >= 2:
        if "token_embedding" in name or "position_embedding" in name:
            return 0.0, 0.5
        factor = math.sqrt(3.0 / math.prod(shape[1:]))
        return 0.0, factor * PICTURE_GAIN if picture else factor
    if name.endswith(".bias"):
        return (0.5 if picture else 0.0), 0.1
    assert name.endswith(".weight"), name
    return 1.0, 0.1


def tensor(name: str, shape) -> np.ndarray:
    """The weight `name`."""
    offset, factor = affine(name, shape)
    v = values(name, math.prod(shape)).astype(np.float64)
    return (offset + factor * v).astype(np.float32).reshape(shape)


def unit(name: str, shape) -> np.ndarray:
    """An input of unit variance: f32(sqrt(3) * value)."""
    v = values(name, math.prod(shape)).astype(np.float64)
    return (math.sqrt(3.0) * v).astype(np.float32).reshape(shape)
