"""The named shapes on which kernels are compared, and what dreamglass calls them in its own benchmarks."""

import dataclasses

USAGE = "expected `conv SIDE IN OUT`, `gemm M K N` or `attention HEADS TOKENS CHANNELS`"


def gflop(kind, numbers):
    """Work of one call in GFLOP; a multiply-add counts two."""
    a, b, c = numbers
    return {"conv": 18 * a * a * b * c, "gemm": 2 * a * b * c, "attention": 4 * a * b * b * c}[kind] / 1e9


def parse(words):
    """(kind, numbers) of a command line; ValueError says what was expected and got."""
    error = ValueError(f"{USAGE}, got `{' '.join(words)}`")
    if len(words) != 4 or words[0] not in ("conv", "gemm", "attention"):
        raise error
    if not all(word.isdecimal() and 1 <= int(word) <= 1 << 16 for word in words[1:]):
        raise error
    return words[0], tuple(int(word) for word in words[1:])


@dataclasses.dataclass(frozen=True)
class Shape:
    """An op on one shape.

    `kind` and `numbers` are: conv with side, input and output channels (3x3, padding 1, one picture);
    gemm with M, K, N; attention with heads, tokens, channels of a head (self-attention).
    """

    title: str
    kind: str
    numbers: tuple
    group: str
    case: str

    @property
    def gflop(self):
        """Work of one call in GFLOP."""
        return gflop(self.kind, self.numbers)

    @property
    def words(self):
        """How the other programs are told."""
        return [self.kind, *(str(n) for n in self.numbers)]

    def criterion_id(self, dtype):
        """The benchmark's full name: `cargo bench -p dreamglass-benches -- NAME`."""
        return f"{self.group}_{dtype}/{self.case}"


SHAPES = (
    Shape("conv3x3 320->320 @64x64", "conv", (64, 320, 320), "conv2d", "sd/conv_320_at_64"),
    Shape("conv3x3 640->640 @32x32", "conv", (32, 640, 640), "conv2d", "sd/conv_640_at_32"),
    Shape("conv3x3 1280->1280 @16x16", "conv", (16, 1280, 1280), "conv2d", "sd/conv_1280_at_16"),
    Shape("conv3x3 64->64 @256x256", "conv", (256, 64, 64), "conv2d", "sd/tiny_vae_64_at_256"),
    Shape("GEMM 4096x320x320", "gemm", (4096, 320, 320), "linear", "sd/gemm_4096x320x320"),
    Shape("GEMM 1024x640x640", "gemm", (1024, 640, 640), "linear", "sd/gemm_1024x640x640"),
    Shape("GEMM 1024x640x5120", "gemm", (1024, 640, 5120), "linear", "sd/feed_forward_1024x640x5120"),
    Shape("GEMM 256x1280x1280", "gemm", (256, 1280, 1280), "linear", "sd/gemm_256x1280x1280"),
    Shape("attention 8x4096x40", "attention", (8, 4096, 40), "attention", "sd/self_4096_of_8x40"),
    Shape("attention 10x1024x64", "attention", (10, 1024, 64), "attention", "sd21/self_1024_of_10x64"),
)
