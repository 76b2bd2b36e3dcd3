"""The ten looks as classical image processing: the training targets.

Every look maps a float32 RGB picture [H,W,3] in [0,1] to another. All are
deterministic. Patterns (hatching, dots, blocks) are locked to the pixel grid
with a period of 8, one latent cell, so that a convolutional UNet, which does
not know where it is, can still draw them in place, and video does not swim.
Thresholds are soft, so that a small change of the input stays small.
"""
import cv2
import numpy as np

PERIOD = 8


def luma(x):
    """Rec. 601 luma [H,W]."""
    return x @ np.array([0.299, 0.587, 0.114], np.float32)


def blur(x, s):
    return cv2.GaussianBlur(x, (0, 0), s, borderType=cv2.BORDER_REFLECT)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.clip(x, -40, 40)))


def mix(a, b, m):
    """a where m=0, b where m=1; m [H,W], a and b colours or pictures."""
    m = m[..., None]
    return np.asarray(a, np.float32) * (1 - m) + np.asarray(b, np.float32) * m


def saturate(x, k):
    g = luma(x)[..., None]
    return np.clip(g + (x - g) * k, 0, 1)


def smooth(x, s=1.5):
    """Edge-keeping smoothing: two bilateral passes."""
    for _ in range(2):
        x = cv2.bilateralFilter(x, 7, 0.12, s * 2)
    return x


def ink_lines(y, s=1.0, gain=60.0, bias=0.012):
    """Soft extended difference of Gaussians: 1 on dark lines, 0 elsewhere."""
    return sigmoid((blur(y, s * 1.6) - blur(y, s) - bias) * gain * 2)


def edges(y, s=1.2):
    """Gradient magnitude of the blurred luma, about 0..1."""
    b = blur(y, s)
    return np.hypot(cv2.Sobel(b, -1, 1, 0, scale=0.5), cv2.Sobel(b, -1, 0, 1, scale=0.5))


def steps(y, n, hardness=10.0):
    """Soft staircase of `n` levels on [0,1]."""
    k = y * (n - 1)
    base = np.floor(k)
    return np.clip((base + sigmoid((k - base - 0.5) * hardness)) / (n - 1), 0, 1)


def palette(y, colours):
    """Piecewise-linear colour ramp; y [H,W] in [0,1]."""
    c = np.asarray(colours, np.float32) / 255.0
    at = np.linspace(0, 1, len(c))
    return np.stack([np.interp(y, at, c[:, i]) for i in range(3)], -1).astype(np.float32)


def grid(x):
    h, w = x.shape[:2]
    return np.meshgrid(np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32), indexing="ij")


def diagonal(x, sign=1):
    """Triangle wave 0..1 along a diagonal, period 8 in both axes."""
    yy, xx = grid(x)
    p = np.mod(xx + sign * yy, PERIOD) / PERIOD
    return np.abs(2 * p - 1)


def kuwahara(x, r=3):
    """Generalised Kuwahara: eight-way weighted mean of four quadrant means."""
    k = 2 * r + 1
    num = np.zeros_like(x)
    den = np.zeros(x.shape[:2], np.float32)
    mean, sq = cv2.blur(x, (r + 1, r + 1)), cv2.blur(x * x, (r + 1, r + 1))
    var = np.maximum(sq - mean * mean, 0).sum(-1)
    h = k // 4 + 1
    for dy in (-h, h):
        for dx in (-h, h):
            m = np.float32([[1, 0, dx], [0, 1, dy]])
            args = dict(dsize=x.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
            w = 1.0 / (1e-3 + cv2.warpAffine(var, m, **args)) ** 2
            num += cv2.warpAffine(mean, m, **args) * w[..., None]
            den += w
    return num / den[..., None]


def pencil(x):
    """Graphite on white paper: dodge, contours, light one-way hatching."""
    y = luma(x)
    tone = np.clip(y / (blur(y, 6) + 0.03), 0, 1.0) ** 1.5
    tone = tone * (0.72 + 0.28 * blur(y, 1.5))
    hatch = sigmoid((diagonal(x) - 0.55) * 8) * np.clip(0.55 - blur(y, 2), 0, 1) * 0.75
    line = np.clip(edges(y, 0.9) * 2.2, 0, 0.8)
    v = np.clip(1.02 - (1 - tone) * 0.75 - hatch - line * 0.6, 0.12, 0.98)
    return v[..., None] * np.float32([0.99, 0.99, 1.0])


def comic(x):
    """Pop-art print: navy ink, red halftone dots, yellow paper."""
    y = luma(smooth(x))
    yy, xx = grid(x)
    w = 2 * np.pi / PERIOD
    dots = 0.5 + 0.25 * (np.cos(w * xx) + np.cos(w * yy))
    red = sigmoid((0.62 - y - (dots - 0.5) * 0.55) * 18)
    out = mix([1.0, 0.86, 0.25], [0.93, 0.16, 0.2], red)
    ink = np.maximum(sigmoid((0.24 - y) * 28), ink_lines(y, 1.1))
    return mix(out, [0.06, 0.07, 0.28], ink)


def oil(x):
    """Oil on canvas: Kuwahara strokes, warm golden palette, deep shadows."""
    k = saturate(kuwahara(kuwahara(x, 3), 2), 1.8)
    y = luma(k)
    warm = palette(y, [(28, 10, 6), (104, 38, 14), (190, 100, 26), (244, 186, 70), (255, 236, 160)])
    out = 0.42 * k + 0.58 * warm
    relief = blur(y, 0.8) - np.roll(blur(y, 0.8), (1, 1), (0, 1))
    return np.clip(out + relief[..., None] * 0.7, 0, 1)


def watercolour(x):
    """Pale washes on paper: smooth pastel colour, darker pigment edges."""
    k = smooth(smooth(x), 2.0)
    k = saturate(k, 2.0)
    e = np.clip(edges(luma(k), 1.5) * 1.6, 0, 1)
    wash = 1 - (1 - k) ** 1.15 * 0.5
    wash = wash * (1 - 0.45 * e[..., None]) + np.float32([0.0, 0.02, 0.05]) * e[..., None]
    return np.clip(wash * np.float32([1.0, 0.985, 0.94]) + 0.02, 0, 1)


def stained_glass(x):
    """Leaded glass: hot saturated panes, thick black lead on the contours."""
    k = cv2.bilateralFilter(blur(x, 1.6), 9, 0.15, 5)
    k = steps(np.clip((k - 0.42) * 1.4 + 0.55, 0, 1), 3, 8)
    k = saturate(k, 2.6)
    tint = palette(luma(k), [(60, 0, 130), (190, 10, 130), (0, 175, 190), (130, 245, 255)])
    k = 0.5 * k + 0.5 * tint
    lead = sigmoid((blur(edges(luma(blur(x, 1.5)), 1.6), 1.0) - 0.115) * 60)
    return mix(k, [0.02, 0.02, 0.03], lead)


def neon(x):
    """Neon tubes at night: glowing coloured contours on near-black violet."""
    b = blur(x, 1.1)
    y = luma(b)
    gx, gy = cv2.Sobel(y, -1, 1, 0, scale=0.5), cv2.Sobel(y, -1, 0, 1, scale=0.5)
    mag = np.hypot(gx, gy)
    core = np.clip(mag * 3.6 - 0.08, 0, 1)
    turn = (gx * gx - gy * gy) / (gx * gx + gy * gy + 1e-4) * 0.5 + 0.5
    hue = mix([0.05, 0.9, 1.0], [1.0, 0.15, 0.75], blur(turn, 1.5))
    glow = blur(core[..., None] * hue, 3.5)
    base = palette(blur(y, 2), [(6, 2, 18), (18, 6, 48), (40, 14, 84)])
    out = base + 0.65 * glow + core[..., None] * hue * 0.85
    return np.clip(out + np.clip(core - 0.75, 0, 1)[..., None] * 0.8, 0, 1)


def pixel_art(x):
    """Handheld-console pixels: 8-pixel blocks, four soft shades of green."""
    h, w = x.shape[:2]
    small = cv2.resize(x, (w // PERIOD, h // PERIOD), interpolation=cv2.INTER_AREA)
    y = np.clip((luma(small) - 0.45) * 1.25 + 0.5, 0, 1)
    c = palette(steps(y, 4, 7), [(15, 48, 15), (48, 98, 48), (132, 168, 20), (186, 214, 40)])
    return cv2.resize(c, (w, h), interpolation=cv2.INTER_NEAREST)


def woodblock(x):
    """Ukiyo-e print: prussian blue, teal and cream flats, vermilion accents."""
    k = smooth(smooth(x), 2.0)
    y = luma(k)
    flat = palette(steps(np.clip((y - 0.45) * 1.2 + 0.5, 0, 1), 4, 9),
                   [(16, 34, 84), (44, 104, 146), (150, 196, 186), (246, 228, 188)])
    warm = sigmoid((k[..., 0] - 0.5 * (k[..., 1] + k[..., 2]) - 0.2) * 24) * 0.85
    out = mix(flat, np.float32([0.85, 0.29, 0.16]) * (0.55 + 0.6 * y[..., None]), warm)
    return np.clip(mix(out, [0.07, 0.09, 0.2], ink_lines(y, 1.0) * 0.9), 0, 1)


def charcoal(x):
    """Charcoal on grey paper: smudged black masses, hard tonal scale."""
    y = luma(x)
    soft = 0.55 * blur(y, 2.5) + 0.45 * y
    v = sigmoid((soft - 0.46) * 6.5) * 0.74 + 0.03
    v = v * (1 - 0.7 * np.clip(edges(y, 1.2) * 2.0, 0, 1))
    grain = (diagonal(x, -1) - 0.5) * 0.08 * np.clip(v * 3, 0, 1)
    return np.clip(v + grain, 0, 1)[..., None] * np.float32([1.0, 0.98, 0.95])


def engraving(x):
    """Copper engraving: sepia lines that swell with the shade on cream paper."""
    y = blur(luma(x), 0.8)
    y = np.clip((y - 0.45) * 1.15 + 0.5, 0, 1)
    dark = 1 - y
    one = sigmoid((dark * 1.25 - diagonal(x)) * 9)
    two = sigmoid((dark * 1.6 - 0.95 - diagonal(x, -1)) * 9)
    ink = np.maximum(np.maximum(one, two) * 0.9, ink_lines(y, 0.9))
    return mix([0.97, 0.87, 0.68], [0.34, 0.13, 0.05], ink)


LOOKS = {
    "pencil sketch": pencil,
    "comic": comic,
    "oil painting": oil,
    "watercolour": watercolour,
    "stained glass": stained_glass,
    "neon": neon,
    "pixel art": pixel_art,
    "woodblock print": woodblock,
    "charcoal": charcoal,
    "engraving": engraving,
}
NAMES = list(LOOKS)


def apply(name, rgb):
    """Apply a look to uint8 RGB [H,W,3]; returns uint8."""
    out = LOOKS[name](rgb.astype(np.float32) / 255.0)
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
