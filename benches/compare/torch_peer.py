#!/usr/bin/env python3
"""One picture into another with diffusers' networks in PyTorch, timed; prints one line of JSON.

A frame is: bytes to the device, AutoencoderTiny encode, noise, UNet steps with the scheduler's sums,
AutoencoderTiny decode, bytes back. The text embeddings are made before. compare.py runs this in a process
of its own.
"""

import time

# Before the imports, which are a part of a cold start.
BEGUN = time.monotonic()

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file

import sampling
from spread import spread

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
TOKENS = 77
# As LCM's authors suggest; it changes no work.
GUIDANCE = 8.0


class Pictures(torch.nn.Module):
    """Bytes [1,H,W,3] to bytes [1,H,W,3]."""

    def __init__(self, folder, size, steps, is_batched):
        super().__init__()
        folder = Path(folder)
        self.unet, self.vae = (
            load(UNet2DConditionModel, folder / "unet"),
            load(AutoencoderTiny, folder / "vae"),
        )
        config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        self.schedule, self.is_batched = sampling.schedule(config, steps), is_batched
        self.scale = self.vae.config.scaling_factor
        width, height = size
        latents = (steps, self.vae.config.latent_channels, height // 8, width // 8)
        generator = torch.Generator().manual_seed(1)

        def random(name, shape):
            self.register_buffer(name, torch.randn(shape, generator=generator))

        random("noise", latents)
        rows = steps if is_batched else 1
        self.register_buffer("timesteps", torch.tensor([s.timestep for s in self.schedule.steps]))
        random("prompt", (1, TOKENS, self.unet.config.cross_attention_dim))
        self.prompt = self.prompt.expand(rows, -1, -1).contiguous()
        cond = self.unet.config.time_cond_proj_dim
        embedding = torch.tensor([sampling.guidance_embedding(GUIDANCE, cond)] * rows) if cond else None
        self.register_buffer("guidance", embedding)
        for name in ("input", "a", "b", "c"):
            factors = torch.tensor([getattr(s, name) for s in self.schedule.steps])
            self.register_buffer(f"of_{name}", factors.view(-1, 1, 1, 1))

    def predict(self, sample, timestep):
        """The UNet's output."""
        return self.unet(sample, timestep, self.prompt, timestep_cond=self.guidance, return_dict=False)[0]

    def encode(self, pixels):
        """The first sample of a picture."""
        x = pixels.permute(0, 3, 1, 2).to(self.noise.dtype) / 127.5 - 1
        latents = self.vae.encode(x, return_dict=False)[0] * self.scale
        return self.schedule.signal * latents + self.schedule.noise * self.noise[:1]

    def one_by_one(self, x):
        """All steps of a frame, one after the other."""
        for ix, step in enumerate(self.schedule.steps):
            noise_pred = self.predict(step.input * x, self.timesteps[ix])
            x = step.a * x + step.b * noise_pred
            if step.c:
                x = x + step.c * self.noise[ix + 1 : ix + 2]
        return x

    def all_rows(self, x, rows):
        """One step of each of the last frames in one pass: the last row's result, and the rows to come."""
        x = torch.cat([x, rows])
        noise_pred = self.predict(self.of_input * x, self.timesteps)
        x = self.of_a * x + self.of_b * noise_pred + self.of_c * self.noise.roll(-1, 0)
        return x[-1:], x[:-1]

    def picture(self, pixels, rows):
        """A picture [1,3,H,W] near [-1, 1], and the rows of the next frame where frames share passes."""
        x = self.encode(pixels)
        x, rows = (self.one_by_one(x), None) if rows is None else self.all_rows(x, rows)
        return self.vae.decode(x / self.scale, return_dict=False)[0], rows

    def forward(self, pixels, rows=None):
        """Bytes, and the rows of the next frame where frames share passes."""
        picture, rows = self.picture(pixels, rows)
        return ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(
            0, 2, 3, 1
        ).contiguous(), rows


def load(kind, folder):
    """A network with the folder's weights, every tensor of the file in its place."""
    with torch.device("meta"):
        network = kind.from_config(json.loads((folder / "config.json").read_text()))
    network.load_state_dict(
        load_file(folder / "diffusion_pytorch_model.safetensors"), strict=True, assign=True
    )
    return network.eval()


class Clock:
    """Times of frames by the host's clock, and by CUDA's events where there are some."""

    def __init__(self, device):
        self.is_cuda = device.type == "cuda"

    def event(self):
        """A point in the device's work, or in the host's time."""
        if not self.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self, event):
        """Waits until the device has come to `event`; the host's time of that moment in seconds."""
        if self.is_cuda:
            event.synchronize()
        return time.perf_counter()

    def between_ms(self, first, last):
        """Milliseconds from one event to another, both done."""
        return first.elapsed_time(last) if self.is_cuda else 1e3 * (last - first)


class Stream:
    """Frames through the network, with their bytes on the host."""

    def __init__(self, network, size, device):
        self.network, self.clock = network, Clock(device)
        width, height = size
        pin = self.clock.is_cuda
        moving = torch.arange(height * width * 3, dtype=torch.int64).mul(2654435761).bitwise_and(255)
        self.source = moving.to(torch.uint8).view(1, height, width, 3)
        self.source = self.source.pin_memory() if pin else self.source
        self.pixels = torch.empty_like(self.source, device=device)
        self.results = [torch.empty_like(self.source, pin_memory=pin) for _ in range(2)]
        self.rows = torch.zeros_like(network.noise[1:]) if network.is_batched else None

    def frame(self, ix):
        """Starts a frame; the events before and behind its work, and behind its copy to the host."""
        if self.clock.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        self.pixels.copy_(self.source, non_blocking=True)
        first = self.clock.event()
        result, rows = self.network(self.pixels, self.rows)
        if rows is not None:
            self.rows.copy_(rows)
        last = self.clock.event()
        self.results[ix % 2].copy_(result, non_blocking=True)
        return first, last, self.clock.event()

    def alone(self, count):
        """Milliseconds of frames one at a time: by the host from bytes to bytes, and on the device."""
        frames, devices = [], []
        for ix in range(count):
            begun = time.perf_counter()
            first, last, copied = self.frame(ix)
            frames.append(1e3 * (self.clock.wait(copied) - begun))
            devices.append(self.clock.between_ms(first, last))
        return frames, devices

    def flowing(self, count):
        """Frames per second with two in flight."""
        times, waiting = [], None
        for ix in range(count + 2):
            copied = self.frame(ix)[2]
            if waiting is not None:
                times.append(self.clock.wait(waiting))
            waiting = copied
        return (len(times) - 1) / (times[-1] - times[0])


def check(network, stream):
    """Stops when the picture is not one: a broken run must not be timed."""
    picture = network.picture(stream.pixels.copy_(stream.source), stream.rows)[0].float()
    if not torch.isfinite(picture).all():
        raise SystemExit("the picture has values that are not finite")
    if picture.std() < 1e-3:
        raise SystemExit(f"the picture is flat: its standard deviation is {picture.std():.2e}")


def measure(args):
    """The figures of a run."""
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    is_cuda = device.type == "cuda"
    dtype = args.dtype or ("f16" if is_cuda else "f32")
    torch.backends.cudnn.benchmark = True
    network = Pictures(args.model, args.size, args.steps, args.batching == "throughput")
    network = network.to(device, DTYPES[dtype]).to(memory_format=torch.channels_last)
    stream = Stream(network, args.size, device)
    begun = time.monotonic()
    check(network, stream)
    checked_s = time.monotonic() - begun
    if args.mode == "compile":
        stream.network = torch.compile(network, mode=args.compile_mode, fullgraph=True, dynamic=False)
    loaded = time.monotonic()
    stream.alone(1)
    first = time.monotonic()
    stream.alone(max(args.warmup, 3))
    frames, devices = stream.alone(args.frames)
    return {
        "device": torch.cuda.get_device_name(device)
        if is_cuda
        else f"CPU, {torch.get_num_threads()} threads",
        "dtype": dtype,
        "version": f"torch {torch.__version__}",
        "frame_ms": spread(frames),
        "device_ms": spread(devices) if is_cuda else None,
        "fps": stream.flowing(args.frames),
        "first_call_s": first - loaded,
        "cold_s": first - BEGUN - checked_s,
        "memory_bytes": torch.cuda.max_memory_allocated(device) if is_cuda else None,
    }


def size(text):
    """WxH."""
    width, height = (int(n) for n in text.split("x"))
    return width, height


def main():
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder that weights.py made")
    parser.add_argument("--size", type=size, default=(512, 512), metavar="WxH", help="default: 512x512")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--compile-mode", default="reduce-overhead", help="torch.compile's mode")
    parser.add_argument("--batching", choices=["latency", "throughput"], default="latency")
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: f16 on CUDA, f32 on the CPU")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=5)
    args = parser.parse_args()
    with torch.inference_mode():
        print(json.dumps(measure(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
