#!/usr/bin/env python3
"""One op of onnxruntime's WebGPU provider, timed: `onnx_webgpu.py conv 64 320 320`. Prints one line of JSON.

Works with `onnxruntime` and `onnxruntime-ep-webgpu` (a plugin), and with the older `onnxruntime-webgpu`.
Everything is f32. Inputs and results stay on the device where the package allows it; waiting is reading a
result back, so a sample is the time of several calls less that of one. Nodes that would fall back to the CPU
are refused, and the result is compared with numpy's: what is timed ran where it should, and is right.
"""

import json
import os
import sys
import time

# The plugin's own word for adapters that are no GPU, such as SwiftShader; without effect elsewhere.
os.environ.setdefault("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")

MISSING = "is not installed: pip install onnx onnxruntime onnxruntime-ep-webgpu"
try:
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    sys.exit(f"{error.name} {MISSING}")

import shapes
from spread import median

PROVIDER = "WebGpuExecutionProvider"
MEASURED_S = 3.0
SAMPLES = 5
# Calls of one sample take this long at least.
SAMPLE_S = 0.05
# A call that takes so long is timed alone.
SLOW_S = 0.5
TOLERANCE = 1e-2


def random(*dims):
    """Values in [-1, 1), the same in every run."""
    return np.random.default_rng(1).uniform(-1, 1, dims).astype(np.float32)


def graph(kind, a, b, c):
    """(nodes, constant inputs, fed inputs): names to arrays."""
    if kind == "conv":
        node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return [node], {"w": random(c, b, 3, 3)}, {"x": random(1, b, a, a)}
    if kind == "gemm":
        return [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": random(b, c)}, {"x": random(a, b)}
    # The contrib op that its transformers are made of: [batch, tokens, channels], heads split by itself.
    node = helper.make_node("MultiHeadAttention", ["x", "k", "v"], ["y"], domain="com.microsoft", num_heads=a)
    return (
        [node],
        {},
        {"x": random(1, b, a * c), "k": random(1, b, a * c) * 0.9, "v": random(1, b, a * c) * 0.8},
    )


def expected(kind, numbers, constants, fed):
    """The first values of the result: 64 channels of a row of pixels, rows, or tokens, in f64."""
    x = fed["x"].astype(np.float64)
    if kind == "gemm":
        return x[:4] @ constants["w"].astype(np.float64)
    if kind == "conv":
        w = constants["w"][:64].astype(np.float64)
        side = numbers[0]
        rows = np.pad(x[0], ((0, 0), (1, 0), (1, 1)))[:, :3]
        return sum(
            np.einsum("oi,ix->ox", w[:, :, j, i], rows[:, j, i : i + side])
            for j in range(3)
            for i in range(3)
        )
    heads, tokens, width = numbers
    q, k, v = (m.astype(np.float64).reshape(tokens, heads, width) for m in (x, fed["k"], fed["v"]))
    scores = np.einsum("qhd,khd->hqk", q[:4], k) / np.sqrt(width)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)
    return mixed.reshape(4, heads * width)


def same_part(kind, result):
    """The part of a result that `expected` computes."""
    return {
        "gemm": lambda: result[:4],
        "conv": lambda: result[0, :64, 0],
        "attention": lambda: result[0, :4],
    }[kind]()


def model(kind, numbers):
    """The model's bytes, its fed inputs and its constants."""
    nodes, constants, fed = graph(kind, *numbers)

    def declared(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    made = helper.make_graph(
        nodes,
        "kernel",
        [declared(name, array.shape) for name, array in fed.items()],
        [declared("y", None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString(), fed, constants


def session(data):
    """A session on the WebGPU provider alone."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if PROVIDER in ort.get_available_providers():
        # Its second try without the provider would hide why the first one failed.
        return ort.InferenceSession(data, options, providers=[PROVIDER], enable_fallback=0)
    try:
        import onnxruntime_ep_webgpu as plugin  # only some installations have it
    except ImportError:
        raise SystemExit(f"this onnxruntime has no {PROVIDER}: pip install onnxruntime-ep-webgpu") from None
    ort.register_execution_provider_library("webgpu", plugin.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise SystemExit("the WebGPU plugin found no adapter")
    options.add_provider_for_devices(devices[:1], {})
    return ort.InferenceSession(data, options)


def why(error):
    """A session's error in a line, with what helps."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if "No supported adapters" in str(error):
        return (
            "Dawn refuses this adapter (its log says why; lavapipe of Mesa 22 lacks a feature); "
            "point VK_ICD_FILENAMES at another driver, such as SwiftShader's"
        )
    return text


def measure(kind, numbers):
    """The figures."""
    data, fed, constants = model(kind, numbers)
    begun = time.perf_counter()
    try:
        runner = session(data)
        result = runner.run(None, fed)[0]
    except Exception as error:  # onnxruntime's errors have no common class
        raise SystemExit(why(error)) from error
    first_s = time.perf_counter() - begun
    truth, found = expected(kind, numbers, constants, fed), same_part(kind, result)
    wrong = float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    if not wrong <= TOLERANCE:
        raise SystemExit(f"the result is wrong: relative error {wrong:.2e}, at most {TOLERANCE} expected")
    calls, note = calls_of(runner, fed)
    samples = sample(calls)
    return {
        "first_s": first_s,
        "median_ms": median(samples),
        "samples": len(samples),
        "relative_error": wrong,
        "note": note,
    }


def calls_of(runner, fed):
    """A function that makes so many calls and waits for them, and what is to be known about it."""
    try:
        inputs = {name: ort.OrtValue.ortvalue_from_numpy(array, "webgpu", 0) for name, array in fed.items()}
        binding = runner.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("y", "webgpu", 0)
    except Exception:  # an older package: no common class either
        return lambda count: [
            runner.run(None, fed) for _ in range(count)
        ], "copies to and from the device included"

    def calls(count):
        for _ in range(count):
            runner.run_with_iobinding(binding)
        binding.get_outputs()[0].numpy()

    return calls, None


def sample(calls):
    """Milliseconds of one call, several times."""

    def seconds(count):
        begun = time.perf_counter()
        calls(count)
        return time.perf_counter() - begun

    once = seconds(1)
    if once > SLOW_S:
        # Reading back is nothing beside it.
        return [1e3 * seconds(1) for _ in range(SAMPLES)]
    times = max(1, min(1000, round(SAMPLE_S / (seconds(2) / 2))))
    samples, begun = [], time.perf_counter()
    while len(samples) < SAMPLES or time.perf_counter() - begun < MEASURED_S:
        samples.append(1e3 * (seconds(1 + times) - seconds(1)) / times)
    return samples


def main():
    """Prints the figures."""
    try:
        kind, numbers = shapes.parse(sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    figures = measure(kind, numbers)
    rate = shapes.gflop(kind, numbers) / figures["median_ms"] * 1e3
    print(json.dumps({**figures, "gflop_per_s": rate, "version": f"onnxruntime {ort.__version__}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
