"""The whole systems that are compared: what each needs, its command, and its figures.

A peer is a function from a `Job` and the `Tools` to figures, or a `Skip` with the reason:

    device, dtype   where and in what it ran
    frame_ms        one frame alone, from bytes on the host to bytes on the host: p50, p95, p99
    device_ms       the device's part of it, where it can be told
    fps             frames per second with two in flight
    cold_s          from the program's start to the first picture, compilation included
    note            what makes it differ
"""

import dataclasses
import json
import math
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import running
from running import Skip
from spread import spread

PROMPT = "a charcoal drawing"
# Batches of pictures that stable-diffusion.cpp makes in one go: its log counts in hundredths of a second.
SD_CPP_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Job:
    """One model at one size."""

    model: str
    scale: str
    folder: Path
    size: tuple
    steps: int

    @property
    def title(self):
        """How it is shown."""
        return f"{self.model}, {self.shape}, {self.steps} step{'s' if self.steps > 1 else ''}"

    @property
    def shape(self):
        """WxH."""
        return f"{self.size[0]}x{self.size[1]}"


@dataclasses.dataclass(frozen=True)
class Tools:
    """Where programs are, and how long each may run."""

    root: Path
    logs: Path
    dreamglass: Path
    python: str
    sd_cpp: str
    adapter: str
    dtype: str
    batching: str
    compile_mode: str
    frames: int
    warmup: int
    limit: float

    def log(self, peer, job):
        """The file of a run."""
        return self.logs / f"{peer}-{job.model}-{job.shape}-{job.steps}.log"


def options(**values):
    """A command's options: `--name value`, `--name` for True, nothing for None and the empty text."""
    words = []
    for name, value in values.items():
        if value not in (None, ""):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def dreamglass(job, tools):
    """`dreamglass bench`: frames alone with the device's time, then a stream."""
    if not tools.dreamglass.is_file():
        raise Skip(f"{tools.dreamglass} is not there: cargo build --release --package dreamglass")
    log = tools.log("dreamglass", job)
    figures = log.with_suffix(".json")
    figures.unlink(missing_ok=True)
    given = options(
        model=job.folder,
        size=job.shape,
        steps=job.steps,
        strength=1,
        prompt=PROMPT,
        batching=tools.batching,
        adapter=tools.adapter,
        dtype=tools.dtype if tools.dtype in ("f16", "f32") else None,
        # Half of the frames alone are measured dispatch by dispatch, and those are left out.
        frames=2 * tools.frames,
        warmup=tools.warmup,
        no_ceilings=True,
        json=figures,
    )
    running.run([tools.dreamglass, "bench", *given], log, tools.limit)
    return from_bench(json.loads(figures.read_text()))


def from_bench(bench):
    """Figures of the JSON of `dreamglass bench`."""
    if bench.get("schema") != 2:
        raise Skip(f"`dreamglass bench` wrote schema {bench.get('schema')}, expected 2")
    adapter, single, stream = bench["adapter"], bench["single"], bench["stream"]
    if single is None or stream is None:
        raise Skip("`dreamglass bench` measured no frames")
    return {
        "device": f"{adapter['name']} ({adapter['backend']}, {adapter['driver']})",
        "dtype": bench["setup"]["dtype"],
        "version": f"dreamglass {bench['version']}",
        "frame_ms": single["job_ms"],
        "device_ms": bench["frame_gpu_ms"],
        "fps": stream["fps"],
        "cold_s": bench["cold_start"]["total_ms"] / 1e3,
        "memory_bytes": bench["memory"]["device_bytes"],
    }


def _torch(mode, job, tools):
    given = options(
        model=job.folder,
        size=job.shape,
        steps=job.steps,
        mode=mode,
        compile_mode=tools.compile_mode,
        batching=tools.batching,
        dtype=tools.dtype,
        frames=tools.frames,
        warmup=tools.warmup,
    )
    command = [tools.python, Path(__file__).with_name("torch_peer.py"), *given]
    out = running.run(command, tools.log(f"torch-{mode}", job), tools.limit)
    return running.last_json(out)


def torch_eager(job, tools):
    """diffusers' networks in PyTorch as they are."""
    return _torch("eager", job, tools)


def torch_compile(job, tools):
    """The same through torch.compile; on CUDA with CUDA graphs."""
    return _torch("compile", job, tools)


def stable_diffusion_cpp(job, tools):
    """stable-diffusion.cpp's command: TAESD, a picture in, a batch of pictures out."""
    program = tools.sd_cpp or shutil.which("sd-cli") or shutil.which("sd")
    if not program or not shutil.which(program):
        raise Skip(
            f"no `{tools.sd_cpp or 'sd-cli'}` on the PATH: build it with SD_VULKAN and give --sd-cpp PATH"
        )
    if job.scale != "full":
        raise Skip("knows the published sizes only: run it with --scale full")
    if tools.batching != "latency":
        raise Skip("takes the steps of a frame one after the other: run it with --batching latency")
    log = tools.log("stable-diffusion.cpp", job)
    source = log.with_suffix(".png")
    write_png(source, job.size)
    given = options(
        mode="img_gen",
        model=job.folder,
        taesd=job.folder / "vae/diffusion_pytorch_model.safetensors",
        init_img=source,
        output=log.with_suffix(".result.png"),
        prompt=PROMPT,
        cfg_scale=1,
        steps=job.steps,
        strength=1,
        sampling_method="lcm" if "lcm" in job.model else "euler",
        width=job.size[0],
        height=job.size[1],
        batch_count=SD_CPP_PICTURES,
        seed=1,
        diffusion_fa=True,
        verbose=True,
    )
    # Without it CPU adapters are left out.
    env = {"GGML_VK_VISIBLE_DEVICES": os.environ.get("GGML_VK_VISIBLE_DEVICES", "0")}
    out = running.run([program, *given], log, tools.limit, env=env, reason=why_sd_cpp_failed)
    return from_sd_cpp(out + log.read_text(errors="replace"))


def why_sd_cpp_failed(text):
    """The first error of the log, else its last line."""
    error = re.search(r"^\[ERROR\s*\].*$|^.*GGML_ASSERT.*$|^ggml_vulkan: .*(?i:error).*$", text, re.MULTILINE)
    return running.last_line(error[0] if error else text)


def from_sd_cpp(log):
    """Figures of its log, per picture of the batch, without loading and text encoder."""

    def seconds(pattern):
        found = [float(s) for s in re.findall(pattern + r"(?: completed)?, taking ([\d.]+)s", log)]
        if not found:
            raise Skip(f"its log has no line of `{pattern}`: another version than is known here")
        return found

    encode, sampling = seconds("encode_first_stage")[-1], seconds(r"(?<!\w)sampling")
    decode = seconds(r"latent \d+ decoded")
    # The first of each compiles.
    later = [s + d for s, d in zip(sampling[1:], decode[1:], strict=False)] or [sampling[0] + decode[0]]
    frames = [1e3 * (encode + frame) for frame in later]
    device = re.search(r"ggml_vulkan: 0 = ([^|\n]+)", log)
    return {
        "device": device[1].strip() if device else "its CPU backend",
        "dtype": "f16",
        "version": "stable-diffusion.cpp",
        "frame_ms": spread(frames),
        "device_ms": None,
        "fps": None,
        "cold_s": None,
        "note": "from its log, which counts in 10 ms",
    }


def write_png(path, size):
    """A picture of moving colours as PNG, with what Python brings."""
    width, height = size

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def row(y):
        wave = int(127 * (1 + math.sin(y / 9)))
        return b"\0" + bytes(v for x in range(width) for v in (x & 255, y & 255, wave))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(row(y) for y in range(height)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


PEERS = {
    "dreamglass": dreamglass,
    "torch-eager": torch_eager,
    "torch-compile": torch_compile,
    "stable-diffusion.cpp": stable_diffusion_cpp,
}
