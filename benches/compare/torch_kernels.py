#!/usr/bin/env python3
"""One op of PyTorch's, timed: `torch_kernels.py conv 64 320 320`. Prints one line of JSON.

f16 with channels_last on CUDA, f32 on the CPU: what the machine gives natively, beside what an adapter does.
"""

import json
import sys
import time

import torch
from torch.nn.functional import conv2d, linear, scaled_dot_product_attention

import shapes
from spread import median

MEASURED_S = 2.0
SAMPLES = 5
SAMPLE_S = 0.02


def op(kind, numbers, device, dtype):
    """The op on random values, to be called again and again."""

    def random(*dims):
        return torch.rand(dims, device=device, dtype=dtype) * 2 - 1

    a, b, c = numbers
    if kind == "conv":
        x, w = (
            t.contiguous(memory_format=torch.channels_last) for t in (random(1, b, a, a), random(c, b, 3, 3))
        )
        return lambda: conv2d(x, w, padding=1)
    if kind == "gemm":
        x, w = random(a, b), random(c, b)
        return lambda: linear(x, w)
    q, k, v = (random(1, a, b, c) for _ in range(3))
    return lambda: scaled_dot_product_attention(q, k, v)


def measure(kind, numbers):
    """The figures."""
    is_cuda = torch.cuda.is_available()
    device, dtype = ("cuda", torch.float16) if is_cuda else ("cpu", torch.float32)
    torch.backends.cudnn.benchmark = True
    call = op(kind, numbers, device, dtype)

    def seconds(count):
        begun = time.perf_counter()
        for _ in range(count):
            call()
        if is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    first_s = seconds(1)
    times = max(1, min(5000, round(SAMPLE_S / seconds(3) * 3)))
    samples, begun = [], time.perf_counter()
    while len(samples) < SAMPLES or time.perf_counter() - begun < MEASURED_S:
        samples.append(1e3 * seconds(times) / times)
    return {
        "first_s": first_s,
        "median_ms": median(samples),
        "samples": len(samples),
        "gflop_per_s": shapes.gflop(kind, numbers) / median(samples) * 1e3,
        "dtype": "f16" if is_cuda else "f32",
        "version": f"torch {torch.__version__}",
    }


def main():
    """Prints the figures."""
    try:
        kind, numbers = shapes.parse(sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with torch.inference_mode():
        print(json.dumps(measure(kind, numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
