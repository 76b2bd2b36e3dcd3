"""Photos, the held-out split and random crops shared by every training script.

The split is a rule, not a list: photos are ordered by the SHA-1 of
"<seed>/<file name>" and the first 24 are held out. `python data.py` writes the
names to holdout.txt.
"""
import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
PHOTOS = Path(os.environ.get("DREAMGLASS_PHOTOS", "/work/shared/photos"))
VIDEO = Path(os.environ.get("DREAMGLASS_VIDEO", "/work/shared/video"))
WORK = Path(os.environ.get("DREAMGLASS_TRAIN_DIR", "/tmp/dg_train"))
HOLDOUT_SEED = 20
N_HOLDOUT = 24


def split():
    """Return (train names, held-out names), each in hash order."""
    names = sorted(p.name for p in PHOTOS.glob("*.jpg"))
    key = lambda n: hashlib.sha1(f"{HOLDOUT_SEED}/{n}".encode()).hexdigest()
    order = sorted(names, key=key)
    return order[N_HOLDOUT:], order[:N_HOLDOUT]


def read_rgb(name):
    """Read one photo as uint8 RGB [H,W,3]."""
    return cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)


def centre_square(img, size):
    """Centre-crop to a square and resize to `size` (area down, cubic up)."""
    h, w = img.shape[:2]
    s = min(h, w)
    y, x = (h - s) // 2, (w - s) // 2
    img = img[y:y + s, x:x + s]
    mode = cv2.INTER_AREA if size <= s else cv2.INTER_CUBIC
    return cv2.resize(img, (size, size), interpolation=mode)


def random_square(img, size, rng, smallest=0.6):
    """Random square crop (side `smallest`..1 of the short side), maybe flipped."""
    h, w = img.shape[:2]
    s = int(min(h, w) * rng.uniform(smallest, 1.0))
    y, x = rng.integers(0, h - s + 1), rng.integers(0, w - s + 1)
    out = cv2.resize(img[y:y + s, x:x + s], (size, size), interpolation=cv2.INTER_AREA)
    return out[:, ::-1].copy() if rng.random() < 0.5 else out


def jitter(img, rng):
    """Mild exposure, contrast, saturation and white-balance change, uint8 RGB."""
    x = img.astype(np.float32) / 255.0
    x = np.clip(x, 0, 1) ** np.exp(rng.normal(0, 0.2))
    x = (x - 0.5) * rng.uniform(0.8, 1.15) + 0.5 + rng.uniform(-0.06, 0.06)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * rng.uniform(0.7, 1.3)
    x = x * rng.uniform(0.92, 1.08, size=(1, 1, 3)).astype(np.float32)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_unit(batch):
    """uint8 [B,H,W,3] -> float32 tensor [B,3,H,W] in [-1,1]."""
    import torch
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


if __name__ == "__main__":
    (HERE / "holdout.txt").write_text("\n".join(split()[1]) + "\n")
    print(len(split()[0]), "training photos,", N_HOLDOUT, "held out")
