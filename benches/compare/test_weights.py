"""Tests of the weights' generator: `python3 -m unittest` in this folder."""

import contextlib
import importlib.util
import io
import json
import math
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import configs
import networks
import numpy as np
import values
import vocabulary
import weights

GOLDENS = Path(__file__).resolve().parents[2] / "tests/goldens/weights.py"


def quiet():
    """Keeps progress out of the tests' output."""
    return contextlib.redirect_stderr(io.StringIO())


class Values(unittest.TestCase):
    """The formula."""

    def test_is_the_one_of_the_goldens(self):
        spec = importlib.util.spec_from_file_location("goldens_weights", GOLDENS)
        goldens = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(goldens)
        theirs = goldens.values("conv_in.weight", 5000)
        np.testing.assert_array_equal(values.values("conv_in.weight", 0, 5000), theirs)
        np.testing.assert_array_equal(values.values("conv_in.weight", 1234, 100), theirs[1234:1334])

    def test_chunks_are_a_cut_of_one_stream(self):
        name, shape = "a.weight", [3, values.CHUNK]
        whole = values.tensor(name, shape)
        self.assertEqual((whole.dtype, whole.shape), (np.dtype("<f2"), tuple(shape)))
        offset, factor = values.affine(name, shape)
        at = 2 * values.CHUNK + 17
        v = float(values.values(name, at, 1)[0])
        self.assertEqual(whole[2, 17], np.float16(np.float32(offset + factor * v)))
        np.testing.assert_array_equal(whole, values.tensor(name, shape))

    def test_variance_is_that_of_the_fan_in(self):
        w = values.tensor("x.weight", [64, 32, 3, 3]).astype(np.float64)
        self.assertAlmostEqual(w.var() * 32 * 9, 1.0, delta=0.05)
        self.assertAlmostEqual(w.mean(), 0.0, delta=0.01)
        norm = values.tensor("norm.weight", [4096]).astype(np.float64)
        self.assertAlmostEqual(norm.mean(), 1.0, delta=0.01)
        with self.assertRaisesRegex(ValueError, "no rule for the tensor `x.running_mean`"):
            values.affine("x.running_mean", [4])


class Networks(unittest.TestCase):
    """Names and shapes."""

    def test_sizes_are_the_published_ones(self):
        expected = {
            "sd-turbo": {"unet": 865_910_724, "vae": 2_445_063, "text_encoder": 340_387_840},
            "lcm-sd15": {"unet": 859_602_884, "vae": 2_445_063, "text_encoder": 123_060_480},
        }
        for name, parts in expected.items():
            model = configs.model(name, "full")
            for part, count in parts.items():
                shapes = dict(networks.tensors(part, model[part]))
                self.assertEqual(sum(math.prod(s) for s in shapes.values()), count, f"{name} {part}")

    def test_small_models_have_the_same_tensors(self):
        for name in configs.MODELS:
            full, small = (configs.model(name, scale) for scale in configs.SCALES)
            for part in ("unet", "vae"):
                names = [[n for n, _ in networks.tensors(part, m[part])] for m in (full, small)]
                self.assertEqual(names[0], names[1])
        with self.assertRaisesRegex(ValueError, "scale is `huge`"):
            configs.model("sd-turbo", "huge")


class Vocabulary(unittest.TestCase):
    """The made-up tokenizer."""

    def test_every_merge_joins_tokens_that_exist(self):
        vocab, merges = vocabulary.make(49_408)
        self.assertEqual(sorted(vocab.values()), list(range(49_408)))
        self.assertEqual((vocab[vocabulary.BOS], vocab[vocabulary.EOS]), (49_406, 49_407))
        for left, right in merges:
            self.assertTrue({left, right, left + right} <= vocab.keys(), f"{left} {right}")

    def test_needs_room_for_every_byte(self):
        self.assertEqual(len(vocabulary.make(514)[0]), 514)
        with self.assertRaisesRegex(ValueError, "513 tokens, expected at least 514"):
            vocabulary.make(513)


class Files(unittest.TestCase):
    """What is written, and what is not."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def test_header_is_safetensors(self):
        tensors = [("a.weight", [4, 3]), ("b.bias", [5])]
        path = self.out / "x.safetensors"
        with quiet():
            weights.write_tensors(path, tensors, weights.Progress(34))
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        self.assertEqual(length % 8, 0)
        self.assertEqual(header["b.bias"], {"dtype": "F16", "shape": [5], "data_offsets": [24, 34]})
        self.assertEqual(len(body), 34)
        np.testing.assert_array_equal(np.frombuffer(body[24:], "<f2"), values.tensor("b.bias", [5]))
        self.assertEqual([p.name for p in self.out.iterdir()], ["x.safetensors"])

    def make(self, tensors=(("a.weight", [4, 3]),)):
        """Makes a model with these tensors in every part."""
        with quiet(), mock.patch.object(networks, "tensors", lambda part, config: list(tensors)):
            return weights.make(self.out, ["sd-turbo"], "small")["sd-turbo"]

    def test_a_finished_model_is_kept_and_an_unfinished_one_made_again(self):
        path = self.make()
        file = path / "unet/diffusion_pytorch_model.safetensors"
        first, when = file.read_bytes(), file.stat().st_mtime_ns
        self.make()
        self.assertEqual(file.stat().st_mtime_ns, when)
        (path / weights.MARKER).write_text(json.dumps(weights.marker("sd-turbo", "small")))
        file.write_bytes(b"half")
        self.make()
        self.assertEqual(file.read_bytes(), first)

    def test_what_is_not_its_own_is_refused(self):
        path = weights.folder(self.out, "sd-turbo", "small")
        path.mkdir()
        (path / "precious.txt").write_text("mine")
        with self.assertRaisesRegex(weights.Refused, f"no {weights.MARKER}"):
            self.make()
        (path / weights.MARKER).write_text("[]")
        with self.assertRaisesRegex(weights.Refused, "move it away"):
            self.make()
        self.assertEqual((path / "precious.txt").read_text(), "mine")

    def test_a_full_disk_is_seen_before(self):
        with self.assertRaisesRegex(weights.Refused, r"GB free, expected \d+"):
            weights.check_space(self.out, 1 << 60)
        self.assertEqual(list(self.out.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
