"""Precompute training crops and their look targets as uint8 shards.

Writes $DREAMGLASS_TRAIN_DIR/shards/<pass>_<part>.npz with `photos`
[n,256,256,3] and `targets` [n,10,256,256,3]. Each pass draws one random,
flipped, colour-jittered crop of every training photo.
"""
import argparse

import cv2
import numpy as np

import data
import looks

PART = 60


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--passes", type=int, default=2)
    ap.add_argument("--seed", type=int, default=2)
    args = ap.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(args.seed)
    (data.WORK / "shards").mkdir(parents=True, exist_ok=True)
    names = data.split()[0]
    for p in range(args.passes):
        for part in range(0, len(names), PART):
            photos, targets = [], []
            for n in names[part:part + PART]:
                x = data.random_square(data.read_rgb(n), 256, rng, 0.62)
                x = data.jitter(x, rng) if rng.random() < 0.5 else x
                photos.append(x)
                targets.append(np.stack([looks.apply(k, x) for k in looks.NAMES]))
            path = data.WORK / "shards" / f"{p}_{part // PART:02d}.npz"
            tmp = path.with_suffix(".part")
            with open(tmp, "wb") as f:
                np.savez(f, photos=np.stack(photos), targets=np.stack(targets))
            tmp.rename(path)
            print(path.name, flush=True)


if __name__ == "__main__":
    main()
