"""Tests of the comparison, with programs that stand for peers: `python3 -m unittest` in this folder."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import compare
import kernel_peers
import peers
import running
import sampling
import shapes
import spread
import table

HERE = Path(__file__).resolve().parent
SPREAD = {"count": 3, "p50": 10.0, "p95": 12.0, "p99": 13.0}
FIGURES = {
    "dtype": "f16",
    "device": "a|b",
    "frame_ms": SPREAD,
    "device_ms": None,
    "fps": 100.0,
    "cold_s": 1.5,
}
BENCH = {
    "schema": 2,
    "version": "0.1.0",
    "adapter": {"name": "a GPU", "backend": "vulkan", "driver": "1.2"},
    "setup": {"dtype": "f16"},
    "single": {"job_ms": SPREAD},
    "stream": {"fps": 100.0},
    "frame_gpu_ms": {**SPREAD, "p50": 9.0},
    "cold_start": {"total_ms": 1500.0},
    "memory": {"device_bytes": 1},
}
# What `dreamglass bench` does, as far as it is called here.
FAKE = f"""#!{sys.executable}
import sys
out = sys.argv[sys.argv.index("--json") + 1]
open(out, "w").write({json.dumps(json.dumps(BENCH))})
"""
SLEEPER = f"#!{sys.executable}\nimport time\nprint('here', flush=True)\ntime.sleep(60)\n"
SD_CPP_LOG = """ggml_vulkan: 0 = Some GPU (driver) | uma: 0
[INFO ] x.cpp:1 - encode_first_stage completed, taking 0.30s
[INFO ] x.cpp:2 - get_learned_condition completed, taking 9.00s
[INFO ] x.cpp:3 - sampling completed, taking 5.00s
[INFO ] x.cpp:3 - sampling completed, taking 1.00s
[INFO ] x.cpp:4 - latent 1 decoded, taking 4.00s
[INFO ] x.cpp:4 - latent 2 decoded, taking 0.20s
"""


class Tables(unittest.TestCase):
    """What is shown."""

    def test_numbers(self):
        shown = [table.number(v) for v in (None, 0.0123, 1.2345, 12.345, 123.45, 4567.8)]
        self.assertEqual(shown, ["–", "0.01", "1.23", "12.3", "123", "4568"])

    def test_ratios_are_of_the_same_round(self):
        def rounds(*medians):
            return [{**FIGURES, "frame_ms": {**SPREAD, "p50": m}, "fps": 1e3 / m} for m in medians]

        base, peer = rounds(10.0, 20.0, 30.0), rounds(20.0, 40.0, 60.0)
        self.assertEqual(table.ratio(peer, base, "frame_ms", "p50"), 2.0)
        self.assertEqual(table.ratio(peer, base, "fps", is_rate=True), 2.0)
        half = [{"skipped": "lost"}, *peer[1:]]
        self.assertEqual(table.ratio(half, base, "frame_ms", "p50"), 2.0)
        self.assertIsNone(table.ratio(peer, [], "frame_ms", "p50"))

    def test_who_is_skipped_is_named_with_the_reason(self):
        text = table.frames({"dreamglass": [FIGURES], "other": [{"skipped": "is | not\nthere"}], "late": []})
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        self.assertIn("skipped: is / not there", rows[2])
        self.assertIn("not reached", rows[3])
        self.assertIn("a/b", rows[1])
        self.assertNotIn("UNEVEN", rows[1])
        disturbed = {**FIGURES, "frame_ms": {**SPREAD, "p95": 21.0}}
        self.assertIn("UNEVEN", table.frames({"dreamglass": [disturbed]}))
        self.assertEqual({line.count("|") for line in text.splitlines()}, {len(table.FRAMES_HEAD) + 1})
        self.assertEqual(len({len(line) for line in text.splitlines()}), 1)

    def test_kernels_are_compared_in_their_storage_type(self):
        row = {
            "dreamglass f32": {"gflop_per_s": 40.0},
            "dreamglass f16": {"gflop_per_s": 60.0},
            "burn": {"gflop_per_s": 20.0},
            "torch": {"gflop_per_s": 30.0, "dtype": "f16"},
            "ort": {"skipped": "refuses"},
        }
        text = table.kernels(
            {"one": row, "two": {"burn": {"gflop_per_s": 1.0}, "ort": {"skipped": "refuses"}}}
        )
        self.assertIn("20.0 (2.00) | 30.0 (2.00) | [1]", text)
        self.assertEqual(text.count("skipped ort: refuses"), 1)
        self.assertIn("not reached", text)

    def test_percentiles_lie_between_neighbours(self):
        self.assertEqual(spread.spread([20.0, 10.0]), {"count": 2, "p50": 15.0, "p95": 19.5, "p99": 19.9})


class Sampling(unittest.TestCase):
    """The schedules, against numbers of diffusers' schedulers."""

    def test_timesteps_and_sums(self):
        import configs

        turbo, lcm = (configs.model(name, "full")["scheduler"] for name in ("sd-turbo", "lcm-sd15"))
        self.assertEqual([s.timestep for s in sampling.schedule(turbo, 4).steps], [999, 749, 499, 249])
        self.assertEqual([s.timestep for s in sampling.schedule(lcm, 4).steps], [999, 759, 499, 259])
        one = sampling.schedule(turbo, 1)
        self.assertAlmostEqual(one.noise, 14.6146, places=3)
        self.assertEqual((one.steps[0].a, one.steps[0].b), (1.0, -one.noise))
        last = sampling.schedule(lcm, 4).steps[-1]
        self.assertEqual(last.c, 0.0)
        with self.assertRaisesRegex(ValueError, "scheduler `Other`"):
            sampling.schedule({"_class_name": "Other"}, 1)


class Running(unittest.TestCase):
    """Programs that fail in every way."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_python(self, code, limit=20.0):
        """Runs a line of Python."""
        return running.run([sys.executable, "-c", code], self.folder / "x.log", limit)

    def test_failures_are_reasons(self):
        self.assertEqual(self.run_python("print('fine')"), "fine\n")
        with self.assertRaisesRegex(running.Skip, r"ValueError: bad \(exit code 1\)"):
            self.run_python("raise ValueError('bad')")
        with self.assertRaisesRegex(running.Skip, "signal 9"):
            self.run_python("import os; os.kill(os.getpid(), 9)")
        with self.assertRaisesRegex(running.Skip, "cannot be started"):
            running.run([self.folder / "nothing"], self.folder / "x.log", 1.0)
        with self.assertRaisesRegex(running.Skip, "printed no figures; its last line: hello"):
            running.last_json("hello\n")

    def test_a_limit_ends_all_that_was_started(self):
        child = f"{sys.executable} -c 'import time; time.sleep(60)' & echo $!; wait"
        with self.assertRaisesRegex(running.Skip, "the limit of 0.5 s"):
            running.run(["sh", "-c", child], self.folder / "x.log", 0.5)
        pid = int((self.folder / "x.out").read_text())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and is_alive(pid):
            time.sleep(0.02)
        self.assertFalse(is_alive(pid))


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


class Figures(unittest.TestCase):
    """What peers write, read back."""

    def test_bench(self):
        figures = peers.from_bench(BENCH)
        self.assertEqual(
            (figures["frame_ms"]["p50"], figures["device_ms"]["p50"], figures["fps"]), (10.0, 9.0, 100.0)
        )
        with self.assertRaisesRegex(running.Skip, "schema 3, expected 2"):
            peers.from_bench({**BENCH, "schema": 3})
        with self.assertRaisesRegex(running.Skip, "no frames"):
            peers.from_bench({**BENCH, "stream": None})

    def test_the_log_of_stable_diffusion_cpp(self):
        figures = peers.from_sd_cpp(SD_CPP_LOG)
        self.assertAlmostEqual(figures["frame_ms"]["p50"], 1500.0)
        self.assertEqual(figures["device"], "Some GPU (driver)")
        with self.assertRaisesRegex(running.Skip, "no line of `encode_first_stage`"):
            peers.from_sd_cpp("nothing")
        self.assertEqual(
            peers.why_sd_cpp_failed("x\n[ERROR] a.cpp:1 - no model\nbye"), "[ERROR] a.cpp:1 - no model"
        )

    def test_criterion(self):
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "conv2d_f32/sd_x/new"
            new.mkdir(parents=True)
            (new / "benchmark.json").write_text(
                '{"full_id": "conv2d_f32/sd/x", "throughput": {"Elements": 4000000}}'
            )
            (new / "estimates.json").write_text('{"median": {"point_estimate": 1000000.0}}')
            found = kernel_peers.from_criterion(Path(folder), "conv2d_f32/sd/x", 0, 0.001)
            self.assertEqual(found, {"gflop_per_s": 4.0, "median_ms": 0.25})
            for name, since, gflop, error in [
                ("conv2d_f32/sd/y", 0, 0.001, "cases.rs"),
                ("conv2d_f32/sd/x", time.time() + 60, 0.001, "wrote no"),
                ("conv2d_f32/sd/x", 0, 0.003, "expected a multiple"),
            ]:
                with self.assertRaisesRegex(running.Skip, error):
                    kernel_peers.from_criterion(Path(folder), name, since, gflop)

    def test_shapes_are_those_of_the_benchmarks(self):
        cases = (HERE.parent / "src/cases.rs").read_text()
        for shape in shapes.SHAPES:
            a, b, c = shape.numbers
            kinds = {"conv": f"Conv({a}, {b}, {c})", "gemm": f"Linear({a}, {b}, {c})"}
            op = kinds.get(shape.kind, f"Attention({b}, {b}, {a}, {c})")
            self.assertIn(f'("{shape.case}", Op::{op})', cases)
            self.assertEqual(shapes.parse(shape.words), (shape.kind, shape.numbers))
        for words in (
            [],
            ["conv", "1", "2"],
            ["dot", "1", "2", "3"],
            ["gemm", "0", "1", "1"],
            ["gemm", "1", "x", "1"],
        ):
            with self.assertRaisesRegex(ValueError, re.escape(" ".join(words))):
                shapes.parse(words)


class Command(unittest.TestCase):
    """The whole command, with a program that stands for dreamglass."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        # A finished model: nothing is made.
        import weights

        model = self.folder / "lcm-sd15-small"
        model.mkdir()
        finished = {**weights.marker("lcm-sd15", "small"), "finished": True}
        (model / weights.MARKER).write_text(json.dumps(finished))

    def command(self, program, *more):
        """The command line, `program` being dreamglass."""
        path = self.folder / "dreamglass"
        path.write_text(program)
        path.chmod(0o755)
        words = [
            "--scale",
            "small",
            "--models",
            "lcm-sd15",
            "--steps",
            "1",
            "--no-kernels",
            "--dreamglass",
            path,
        ]
        words += ["--model-dir", self.folder, "--sd-cpp", "/nowhere", *more]
        return [sys.executable, HERE / "compare.py", *(str(word) for word in words)]

    def test_figures_and_skips(self):
        out = self.folder / "figures.json"
        command = self.command(
            FAKE, "--peers", "dreamglass", "stable-diffusion.cpp", "--rounds", "2", "--json", out
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\| stable-diffusion.cpp .*skipped: no `/nowhere`")
        report = json.loads(out.read_text())
        self.assertTrue(report["is_complete"])
        self.assertEqual(len(report["frames"][0]["peers"]["dreamglass"]), 2)

    def test_without_figures_of_its_own_it_fails(self):
        failing = "#!/bin/sh\necho no adapter >&2\nexit 1\n"
        command = self.command(failing, "--peers", "dreamglass")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("skipped: no adapter", done.stdout)

    def test_ctrl_c_ends_the_peer_and_shows_what_there_is(self):
        command = self.command(SLEEPER, "--peers", "dreamglass")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        heard = ""
        while "dreamglass …" not in heard:
            heard += process.stderr.read(1)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("not reached", out)
        self.assertIn("ended early", out)

    def test_bad_arguments_are_named(self):
        for words, expected in [
            (["--size", "100x100"], "multiples of 8"),
            (["--steps", "9"], "from 1 to 4"),
            (["--peers", "nobody"], "nobody"),
        ]:
            with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit) as end:
                compare.arguments(words)
            self.assertEqual(end.exception.code, 2)
            self.assertIn(expected, err.getvalue())


if __name__ == "__main__":
    unittest.main()
