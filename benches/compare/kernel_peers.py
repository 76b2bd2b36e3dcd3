"""The kernels that are compared: one op on one shape, in GFLOP/s."""

import json
import time
from pathlib import Path

import running
from running import Skip

HERE = Path(__file__).resolve().parent
BURN = "dreamglass-burn-peer"


def _log(tools, peer, shape):
    return tools.logs / f"{peer}-{shape.case.replace('/', '-')}.log"


def _dreamglass(dtype, shape, tools):
    """Criterion's median of the case in `benches/`."""
    name = shape.criterion_id(dtype)
    begun = time.time()
    command = ["cargo", "bench", "--package", "dreamglass-benches", "--bench", "kernels", "--", name]
    running.run(command, _log(tools, f"dreamglass-{dtype}", shape), tools.limit, cwd=tools.root)
    return from_criterion(tools.root / "target/criterion", name, begun, shape.gflop)


def from_criterion(folder, name, since, gflop):
    """Figures of the benchmark `name` in criterion's `folder`, written after `since` (seconds, Unix).

    A plan repeats small cases: criterion's throughput counts all of its work, a multiple of `gflop`.
    """
    for path in folder.glob("*/*/new/benchmark.json"):
        benchmark = json.loads(path.read_text())
        if benchmark["full_id"] != name or path.stat().st_mtime < since - 1:
            continue
        estimates = json.loads(path.with_name("estimates.json").read_text())
        work = benchmark["throughput"]["Elements"] / 1e9
        times = round(work / gflop)
        if times < 1 or abs(work / gflop - times) > 0.01:
            raise Skip(f"{name} does {work:.3f} GFLOP, expected a multiple of {gflop:.3f}")
        median_s = estimates["median"]["point_estimate"] / 1e9
        return {"gflop_per_s": work / median_s, "median_ms": 1e3 * median_s / times}
    raise Skip(f"criterion wrote no {name} under {folder}: is the case in benches/src/cases.rs?")


def dreamglass_f32(shape, tools):
    """Dreamglass, stored in f32."""
    return _dreamglass("f32", shape, tools)


def dreamglass_f16(shape, tools):
    """Dreamglass, stored in f16, summed in f32."""
    return _dreamglass("f16", shape, tools)


def burn(shape, tools):
    """burn's tensors on its wgpu backend, tuned by itself; f32."""
    program = tools.root / "target/burn/release" / BURN
    if not program.is_file():
        raise Skip("is not built: (cd benches/burn && cargo build --release)")
    out = running.run([program, *shape.words], _log(tools, "burn", shape), tools.limit)
    return running.last_json(out)


def onnxruntime_webgpu(shape, tools):
    """onnxruntime's WebGPU provider; f32."""
    command = [tools.python, HERE / "onnx_webgpu.py", *shape.words]
    return running.last_json(running.run(command, _log(tools, "onnxruntime-webgpu", shape), tools.limit))


def torch(shape, tools):
    """PyTorch, natively: f16 on CUDA, f32 on the CPU."""
    command = [tools.python, HERE / "torch_kernels.py", *shape.words]
    return running.last_json(running.run(command, _log(tools, "torch", shape), tools.limit))


KERNEL_PEERS = {
    "dreamglass f32": dreamglass_f32,
    "dreamglass f16": dreamglass_f16,
    "burn": burn,
    "onnxruntime-webgpu": onnxruntime_webgpu,
    "torch": torch,
}
