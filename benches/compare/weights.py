#!/usr/bin/env python3
"""Writes models with the published configs and random weights, which `dreamglass --model DIR` loads."""

import argparse
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path

import configs
import networks
import values
import vocabulary

# Changes whenever other bytes come out for the same model.
VERSION = 1
MARKER = "dreamglass-compare.json"
# Left free on the disk, in bytes.
SPARE = 256 << 20

EXAMPLES = """\
examples:
  weights.py models                                both models, 4.4 GB
  weights.py models --models sd-turbo
  weights.py models --scale small                  the same structure in a few MB, for dry runs
  dreamglass bench --model models/sd-turbo-full --size 512x512 --steps 1

Each model becomes the folder DIR/NAME-SCALE in diffusers' layout: f16 safetensors, configs, a made-up
vocabulary. The same name and scale give the same bytes on every machine (the formula is in
values.py). A finished model is left as it is; a folder that this program did not make is never touched.
exit codes: 0 done, 1 it failed, 2 bad arguments, 130 ended by Ctrl-C."""


class Refused(RuntimeError):
    """A reason to stop, for the user."""


def folder(out, name, scale):
    """Where the model goes."""
    return Path(out) / f"{name}-{scale}"


def marker(name, scale):
    """What the marker of a finished model holds."""
    return {
        "made_by": "dreamglass benches/compare/weights.py",
        "version": VERSION,
        "model": name,
        "scale": scale,
    }


def state(path, name, scale):
    """`absent`, `finished` or `unfinished`; anything else in its place is refused."""
    if not path.exists():
        return "absent"
    if not path.is_dir():
        raise Refused(f"{path} is not a folder: move it away or choose another DIR")
    if not any(path.iterdir()):
        return "absent"
    try:
        found = json.loads((path / MARKER).read_text())
        is_own = found.get("made_by") == marker(name, scale)["made_by"]
    except (OSError, ValueError, AttributeError):
        is_own = False
    if not is_own:
        raise Refused(f"{path} has files but no {MARKER} of this program: move it away or choose another DIR")
    return "finished" if found == {**marker(name, scale), "finished": True} else "unfinished"


def header(tensors):
    """A safetensors header for f16 tensors one behind the other, and the bytes of all of them."""
    entries, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end


class Progress:
    """A bar on a terminal; otherwise one line a file."""

    def __init__(self, total):
        self.total, self.done, self.begun, self.shown = total, 0, time.monotonic(), 0.0
        self.is_live = sys.stderr.isatty()

    def add(self, count):
        """So many bytes more are written."""
        self.done += count
        now = time.monotonic()
        if self.is_live and (now - self.shown > 0.1 or self.done == self.total):
            self.shown = now
            share = self.done / self.total
            left = (now - self.begun) * (1 - share) / share
            bar = "#" * round(30 * share)
            print(f"\r[{bar:<30}] {100 * share:3.0f} %  {left:4.0f} s left ", end="", file=sys.stderr)

    def line(self, text):
        """A line above the bar."""
        print(f"\r{text:<70}" if self.is_live else text, file=sys.stderr)


def write_tensors(path, tensors, progress):
    """Writes the file tensor by tensor; it has its name only when it is whole."""
    part = path.with_name(path.name + ".part")
    head, size = header(tensors)
    with open(part, "wb") as file:
        file.write(head)
        for name, shape in tensors:
            for chunk in values.chunks(name, shape):
                file.write(chunk.tobytes())
                progress.add(chunk.nbytes)
    os.replace(part, path)
    progress.line(f"  {path} ({size / 1e6:.1f} MB)")


def write_json(path, value):
    """Writes indented JSON, and the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_model(path, name, scale, progress):
    """Writes the whole folder of a model; the marker says at the end that it is finished."""
    model = configs.model(name, scale)
    write_json(path / MARKER, marker(name, scale))
    write_json(path / "model_index.json", configs.model_index(model))
    write_json(path / "scheduler/scheduler_config.json", model["scheduler"])
    tokenizer = path / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    for file, text in vocabulary.files(model["text_encoder"]["vocab_size"], model["pad_token"]).items():
        (tokenizer / file).write_text(text, encoding="utf-8")
    for part, (_, file) in networks.NETWORKS.items():
        write_json(path / part / "config.json", model[part])
        write_tensors(path / part / file, networks.tensors(part, model[part]), progress)
    write_json(path / MARKER, {**marker(name, scale), "finished": True})


def tensor_bytes(name, scale):
    """Bytes of all tensors of a model."""
    model = configs.model(name, scale)
    return sum(header(networks.tensors(part, model[part]))[1] for part in networks.NETWORKS)


def check_space(out, needed):
    """Refuses when the disk lacks room for `needed` bytes."""
    free = shutil.disk_usage(out).free
    if free < needed + SPARE:
        wanted = (needed + SPARE) / 1e9
        raise Refused(f"{out} has {free / 1e9:.1f} GB free, expected {wanted:.1f} GB: choose another DIR")


def make(out, names, scale):
    """Makes the models that are not there yet; returns the folder of each."""
    paths = {name: folder(out, name, scale) for name in names}
    missing = [name for name in names if state(paths[name], name, scale) != "finished"]
    Path(out).mkdir(parents=True, exist_ok=True)
    needed = sum(tensor_bytes(name, scale) for name in missing)
    if missing:
        check_space(out, needed)
    progress = Progress(needed)
    for name in names:
        if name in missing:
            print(f"{name} ({scale}): {tensor_bytes(name, scale) / 1e6:.0f} MB of weights", file=sys.stderr)
            paths[name].mkdir(exist_ok=True)
            write_model(paths[name], name, scale, progress)
        else:
            print(f"{paths[name]} is there already", file=sys.stderr)
    return paths


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="folder that the models' folders go to")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        choices=list(configs.MODELS),
        default=list(configs.MODELS),
        help=f"which models: {', '.join(configs.MODELS)} (default: all)",
    )
    parser.add_argument(
        "--scale",
        choices=configs.SCALES,
        default="full",
        help="full: the published sizes; small: the same structure, narrow (default: full)",
    )
    return parser.parse_args()


def main():
    """Exit code of the command."""
    args = arguments()
    try:
        make(args.out, args.models, args.scale)
    except Refused as error:
        print(f"weights.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"weights.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nended; run it again to go on with the unfinished model from its start", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
