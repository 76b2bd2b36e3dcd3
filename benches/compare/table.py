"""What was measured, as tables in Markdown that are also aligned to be read as they are."""

from spread import median

NONE = "–"
BASE = "dreamglass"
# Frames whose 95th percentile is further above the median than this were disturbed.
UNEVEN = 2.0
BASE_F32, BASE_F16 = "dreamglass f32", "dreamglass f16"

FRAMES_HEAD = (
    "peer",
    "frame p50 ms",
    "p95",
    "p99",
    "device p50 ms",
    "frames/s",
    "x frame",
    "x stream",
    "cold s",
    "how",
)
FRAMES_NOTE = """\
`frame`: one frame alone, from bytes on the host to bytes on the host; `device`: its part on the device;
`frames/s`: two in flight; `cold`: from the program's start to the first picture, with compilation.
`x frame` is the peer's p50 over dreamglass's and `x stream` dreamglass's frames/s over the peer's, both
of the same round: above 1 the peer is slower."""
KERNELS_NOTE = """\
GFLOP/s; in brackets dreamglass's rate over the peer's in the same storage type: above 1 the peer is
slower."""


def number(value, digits=3):
    """A number with so many significant digits, without an exponent."""
    if value is None:
        return NONE
    for places in range(digits - 1, 0, -1):
        if abs(value) < 10 ** (digits - places):
            return f"{value:.{places}f}"
    return f"{value:.0f}"


def render(head, rows, left):
    """A Markdown table whose columns are padded to one width each; those of the indices `left` start left."""
    cells = [[str(cell).replace("|", "/").replace("\n", " ") for cell in row] for row in [head, *rows]]
    widths = [max(len(row[ix]) for row in cells) for ix in range(len(head))]

    def line(row):
        padded = [
            cell.ljust(width) if ix in left else cell.rjust(width)
            for ix, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if ix in left else "-" * (w + 1) + ":" for ix, w in enumerate(widths))
    return "\n".join([line(cells[0]), f"|{rule}|", *map(line, cells[1:])])


def good(rounds):
    """The rounds that have figures."""
    return [figures for figures in rounds if "skipped" not in figures]


def middle(rounds, *path):
    """The median over rounds of a figure, such as frame_ms p50; None where no round has it."""
    values = []
    for figures in good(rounds):
        for key in path:
            figures = (figures or {}).get(key)
        if figures is not None:
            values.append(figures)
    return median(values) if values else None


def ratio(peer, base, *path, is_rate=False):
    """The median over rounds of peer / base, each of the same round; base / peer where more is better."""
    values = []
    for pair in zip(peer, base, strict=False):
        figures = [middle([one], *path) for one in pair]
        if all(figures):
            values.append(figures[1] / figures[0] if is_rate else figures[0] / figures[1])
    return median(values) if values else None


def how(rounds):
    """Where and in what a peer ran, or why it did not."""
    figures = good(rounds)
    if not figures:
        return f"skipped: {rounds[-1]['skipped']}" if rounds else "skipped: not reached"
    first = figures[0]
    words = [first.get("version"), first.get("dtype"), first.get("device"), first.get("note")]
    if middle(rounds, "frame_ms", "p95") > UNEVEN * middle(rounds, "frame_ms", "p50"):
        words.append("UNEVEN: other work disturbed it, or there were too few frames")
    return ", ".join(word for word in words if word)


def frames(peers):
    """The table of one job; `peers` maps names to their rounds, each figures or {"skipped": reason}."""
    base, rows = peers.get(BASE, []), []
    for name, rounds in peers.items():
        cells = [number(middle(rounds, "frame_ms", p)) for p in ("p50", "p95", "p99")]
        cells += [number(middle(rounds, "device_ms", "p50")), number(middle(rounds, "fps"))]
        cells += [
            number(ratio(rounds, base, "frame_ms", "p50")),
            number(ratio(rounds, base, "fps", is_rate=True)),
        ]
        rows.append([name, *cells, number(middle(rounds, "cold_s")), how(rounds)])
    return render(FRAMES_HEAD, rows, left=(0, len(FRAMES_HEAD) - 1))


def kernels(shapes):
    """The table of kernels; `shapes` maps titles to peers to figures or {"skipped": reason}."""
    peers = list(dict.fromkeys(peer for row in shapes.values() for peer in row))
    notes, rows = [], []

    def cell(title, peer):
        figures = shapes[title].get(peer, {"skipped": "not reached"})
        if "skipped" in figures:
            return f"[{note(peer, figures['skipped'])}]"
        base = shapes[title].get(BASE_F16 if figures.get("dtype") == "f16" else BASE_F32, {})
        rate = figures["gflop_per_s"]
        if peer in (BASE_F32, BASE_F16) or "gflop_per_s" not in base:
            return number(rate)
        return f"{number(rate)} ({number(base['gflop_per_s'] / rate)})"

    def note(peer, reason):
        text = f"{peer}: {reason}"
        if text not in notes:
            notes.append(text)
        return notes.index(text) + 1

    for title in shapes:
        rows.append([title, *(cell(title, peer) for peer in peers)])
    lines = [f"[{ix}] skipped {text}" for ix, text in enumerate(notes, 1)]
    return "\n".join([render(["shape", *peers], rows, left=(0,)), *([""] + lines if lines else [])])


def machine(facts):
    """What the machine is, as a list."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def page(report):
    """The whole report."""
    parts = ["# Dreamglass and its peers", machine(report["machine"])]
    for job in report["frames"]:
        parts += [f"## {job['title']}, {job['batching']}", frames(job["peers"])]
    if report["frames"]:
        parts.append(FRAMES_NOTE)
    if report["kernels"]:
        parts += ["## Kernels", kernels(report["kernels"]), KERNELS_NOTE]
    if not report["is_complete"]:
        parts.append("The run was ended early.")
    return "\n\n".join(parts) + "\n"
