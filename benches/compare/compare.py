#!/usr/bin/env python3
"""Runs dreamglass and its peers on the same work, one after the other on this machine, and prints ratios."""

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

import configs
import kernel_peers
import machine
import peers
import running
import shapes
import table

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "target/compare"
# Seconds that building a program may take.
BUILD_LIMIT = 7200

EXAMPLES = """\
examples:
  compare.py --build --markdown table.md --json figures.json      all of it: what the README describes
  compare.py --models sd-turbo --steps 1 --no-kernels
  compare.py --peers dreamglass torch-compile --rounds 3          medians of three turns each
  compare.py --steps 4 --batching throughput                      one step of each of the last 4 frames
  compare.py --no-frames --shapes GEMM attention                  kernels alone
  compare.py --scale small --size 64x64 --frames 5                a dry run in minutes, also without a GPU

Needs nothing but Python and numpy itself; torch, diffusers and onnxruntime are needed by the peers that are
made of them, in the Python given by --python. A peer that is absent, refuses or fails is skipped by its
name, with the reason in the table; its log is in target/compare/logs. Models with random weights are made
by weights.py where they are missing (4.4 GB for both in full size). Ctrl-C ends the peer that runs and
prints what there is.
exit codes: 0 done, 1 dreamglass itself has no figures, 2 bad arguments, 130 ended by Ctrl-C."""


def size(text):
    """WxH in pixels, multiples of 8."""
    try:
        width, height = (int(word) for word in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}`, expected WxH such as 512x512") from None
    if width % 8 or height % 8 or not (8 <= width <= 4096 and 8 <= height <= 4096):
        raise argparse.ArgumentTypeError(f"`{text}`, expected multiples of 8 from 8 to 4096")
    return width, height


def between(low, high, kind=int):
    """A number in low..=high."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"`{text}`, expected a number from {low} to {high}")
        return value

    return parse


def arguments(words=None):
    """The command line."""
    kinds = [*peers.PEERS, *kernel_peers.KERNEL_PEERS]
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    work = parser.add_argument_group("what is run")
    work.add_argument(
        "--models",
        nargs="+",
        choices=list(configs.MODELS),
        default=list(configs.MODELS),
        metavar="NAME",
        help=f"{', '.join(configs.MODELS)} (default: all)",
    )
    work.add_argument(
        "--scale",
        choices=configs.SCALES,
        default="full",
        help="full: the published sizes; small: the same structure, narrow, for dry runs",
    )
    work.add_argument(
        "--size", type=size, default=(512, 512), metavar="WxH", help="pictures (default: 512x512)"
    )
    work.add_argument(
        "--steps", type=between(1, 4), nargs="+", default=[1, 4], metavar="N", help="default: 1 4"
    )
    work.add_argument(
        "--batching",
        choices=["latency", "throughput"],
        default="latency",
        help="all steps of a frame at once, or one step of each of the last frames in one pass",
    )
    work.add_argument(
        "--peers",
        nargs="+",
        choices=kinds,
        default=kinds,
        metavar="NAME",
        help=f"whole systems: {', '.join(peers.PEERS)}; kernels: "
        f"{', '.join(kernel_peers.KERNEL_PEERS)} (default: all)",
    )
    work.add_argument(
        "--shapes",
        nargs="+",
        default=[""],
        metavar="TEXT",
        help="kernels on shapes whose name holds one of these, such as conv (default: all)",
    )
    work.add_argument("--no-frames", action="store_true", help="leave whole systems out")
    work.add_argument("--no-kernels", action="store_true", help="leave kernels out")
    how = parser.add_argument_group("how it is measured")
    how.add_argument(
        "--frames",
        type=between(2, 10_000),
        default=60,
        metavar="N",
        help="frames alone, and as many as a stream (default: 60)",
    )
    how.add_argument(
        "--warmup",
        type=between(1, 10_000),
        default=10,
        metavar="N",
        help="frames before them that do not count (default: 10)",
    )
    how.add_argument(
        "--rounds",
        type=between(1, 100),
        default=1,
        metavar="N",
        help="turns: each runs every peer once; medians over them are shown (default: 1)",
    )
    how.add_argument(
        "--limit",
        type=between(1, 86_400, float),
        default=1800.0,
        metavar="S",
        help="seconds that one run of a peer may take (default: 1800)",
    )
    how.add_argument(
        "--dtype",
        choices=["f16", "bf16", "f32"],
        help="storage of all that can choose (default: f16; f32 of PyTorch on CPUs; bf16 is PyTorch's only)",
    )
    how.add_argument(
        "--compile-mode",
        default="reduce-overhead",
        choices=["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "default"],
        help="of torch.compile; the first two use CUDA graphs (default: reduce-overhead)",
    )
    where = parser.add_argument_group("where things are")
    where.add_argument(
        "--build", action="store_true", help="build dreamglass, its benchmarks and burn's peer first"
    )
    where.add_argument(
        "--dreamglass",
        type=Path,
        default=ROOT / "target/release/dreamglass",
        metavar="PATH",
        help="default: target/release/dreamglass",
    )
    where.add_argument(
        "--adapter", default="", metavar="INDEX|NAME", help="of dreamglass; see `dreamglass devices`"
    )
    where.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="Python with torch (default: this one)"
    )
    where.add_argument(
        "--sd-cpp",
        default="",
        metavar="PATH",
        help="stable-diffusion.cpp's command (default: sd-cli or sd on the PATH)",
    )
    where.add_argument(
        "--model-dir",
        type=Path,
        default=OUT / "models",
        metavar="DIR",
        help="where models with random weights are or are made (default: target/compare/models)",
    )
    where.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    where.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    return parser.parse_args(words)


def say(text, end="\n"):
    """Progress, apart from the result."""
    print(text, end=end, file=sys.stderr, flush=True)


def build():
    """Builds what is ours; what cannot be built is skipped later, by its name."""
    quiet = ["--quiet"]
    commands = [
        (["cargo", "build", "--release", "--package", "dreamglass", *quiet], ROOT),
        (
            ["cargo", "bench", "--package", "dreamglass-benches", "--bench", "kernels", "--no-run", *quiet],
            ROOT,
        ),
        (["cargo", "build", "--release", *quiet], ROOT / "benches/burn"),
    ]
    for command, folder in commands:
        say(f"$ {' '.join(command)}")
        try:
            running.run(command, OUT / "logs/build.log", BUILD_LIMIT, cwd=folder)
        except running.Skip as error:
            say(f"  {error}")


def one(run, *words):
    """A peer's figures, or why it has none; says both."""
    try:
        return run(*words)
    except running.Skip as error:
        return {"skipped": str(error)}
    except (KeyError, TypeError, ValueError, subprocess.SubprocessError, OSError) as error:
        return {"skipped": f"its figures cannot be read: {error!r}"}


def short(figures):
    """A line about a run that ended."""
    if "skipped" in figures:
        return f"skipped: {figures['skipped']}"
    if "frame_ms" in figures:
        return f"{table.number(figures['frame_ms']['p50'])} ms"
    return f"{table.number(figures['gflop_per_s'])} GFLOP/s"


def run_frames(args, tools, report):
    """Every peer on every job, `--rounds` times; fills the report as it goes."""
    wanted = [name for name in peers.PEERS if name in args.peers]
    if args.no_frames or not wanted:
        return
    import weights  # needs numpy, which a run of kernels alone does not

    folders = weights.make(args.model_dir, args.models, args.scale)
    jobs = [peers.Job(m, args.scale, folders[m], args.size, s) for m in args.models for s in args.steps]
    results = [{name: [] for name in wanted} for _ in jobs]
    for job, result in zip(jobs, results, strict=True):
        report["frames"].append(
            {"title": job.title, "batching": args.batching, "scale": args.scale, "peers": result}
        )
    for turn in range(args.rounds):
        for job, result in zip(jobs, results, strict=True):
            for name in wanted:
                say(f"{job.title}, round {turn + 1} of {args.rounds}: {name} … ", end="")
                result[name].append(one(peers.PEERS[name], job, tools))
                say(short(result[name][-1]))


def run_kernels(args, tools, report):
    """Every kernel of every peer on every shape."""
    wanted = [name for name in kernel_peers.KERNEL_PEERS if name in args.peers]
    if args.no_kernels or not wanted:
        return
    for shape in shapes.SHAPES:
        if not any(text in shape.title for text in args.shapes):
            continue
        row = report["kernels"].setdefault(shape.title, {})
        for name in wanted:
            say(f"{shape.title}: {name} … ", end="")
            row[name] = one(kernel_peers.KERNEL_PEERS[name], shape, tools)
            say(short(row[name]))


def write(path, text):
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    say(f"wrote {path}")


def has_base(report):
    """Whether dreamglass has figures wherever others were asked for."""
    rounds = [job["peers"].get(table.BASE) for job in report["frames"]]
    kernels = [row.get(table.BASE_F32) for row in report["kernels"].values()]
    return all(table.good(r) for r in rounds if r is not None) and all(
        "skipped" not in k for k in kernels if k
    )


def main():
    """Exit code of the command."""
    args = arguments()
    # What ends services ends this like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tools = peers.Tools(
        root=ROOT,
        logs=OUT / "logs",
        dreamglass=args.dreamglass,
        python=args.python,
        sd_cpp=args.sd_cpp,
        adapter=args.adapter,
        dtype=args.dtype,
        batching=args.batching,
        compile_mode=args.compile_mode,
        frames=args.frames,
        warmup=args.warmup,
        limit=args.limit,
    )
    said = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    report = {
        "machine": machine.facts(ROOT),
        "arguments": said,
        "frames": [],
        "kernels": {},
        "is_complete": False,
    }
    try:
        if args.build:
            build()
        run_frames(args, tools, report)
        run_kernels(args, tools, report)
        report["is_complete"] = True
    except KeyboardInterrupt:
        say("\nended by Ctrl-C; what there is:")
    except ImportError as error:
        say(f"compare.py: {error.name} is not installed: pip install -r benches/compare/requirements.txt")
        return 2
    except (OSError, RuntimeError) as error:
        say(f"compare.py: {error}")
        return 2
    page = table.page(report)
    print(page)
    if args.markdown:
        write(args.markdown, page)
    if args.json:
        write(args.json, json.dumps(report, indent=1) + "\n")
    if not report["is_complete"]:
        return 130
    return 0 if has_base(report) else 1


if __name__ == "__main__":
    sys.exit(main())
