"""Train the tiny autoencoder (diffusers AutoencoderTiny) from scratch on CPU.

Photos and, as soon as data.py's look shards appear, look targets. Loss: L1 +
L2 + gradient L1. Checkpoints (EMA weights) go to $DREAMGLASS_TRAIN_DIR/vae.pt.
"""
import argparse
import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

import data

CONFIG = dict(
    in_channels=3, out_channels=3, latent_channels=8,
    encoder_block_out_channels=(32, 32, 32, 32),
    decoder_block_out_channels=(32, 32, 32, 32),
    num_encoder_blocks=(0, 1, 2, 3), num_decoder_blocks=(4, 3, 1, 0),
)


def gradients(x):
    """Horizontal and vertical differences of [B,C,H,W]."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(out, ref):
    """L1 + 2*L2 + gradient L1; pictures in [-1,1]."""
    gx, gy = gradients(out - ref)
    d = out - ref
    return 0.5 * d.abs().mean() + 2.0 * d.square().mean() + 0.5 * (gx.abs().mean() + gy.abs().mean())


class Crops:
    """Random crops of photos at several scales and of the look targets."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.photos = [data.read_rgb(n) for n in data.split()[0]]
        self.targets, self.seen = [], set()

    def poll(self):
        """Pick up look shards written since the last call."""
        for path in sorted((data.WORK / "shards").glob("*.npz")):
            if path.name not in self.seen:
                self.seen.add(path.name)
                self.targets.append(np.load(path)["targets"])

    def one(self, size):
        rng = self.rng
        if self.targets and rng.random() < 0.45:
            shard = self.targets[rng.integers(len(self.targets))]
            img = shard[rng.integers(shard.shape[0]), rng.integers(shard.shape[1])]
            y, x = rng.integers(0, img.shape[0] - size + 1, 2)
            return img[y:y + size, x:x + size]
        img = self.photos[rng.integers(len(self.photos))]
        if rng.random() < 0.5:  # native resolution, as seen at 512
            y, x = rng.integers(0, img.shape[0] - size + 1), rng.integers(0, img.shape[1] - size + 1)
            img = img[y:y + size, x:x + size]
            img = img[:, ::-1] if rng.random() < 0.5 else img
        else:
            img = data.random_square(img, size, rng, 0.4)
        return data.jitter(img, rng) if rng.random() < 0.3 else img

    def batch(self, n, size):
        return data.to_unit(np.stack([self.one(size) for _ in range(n)]))


@torch.no_grad()
def psnr_512(vae, names):
    """Mean PSNR (dB, pictures in [0,1]) of the round trip at 512x512."""
    out = []
    for n in names:
        x = data.to_unit(data.centre_square(data.read_rgb(n), 512)[None])
        y = vae.decode(vae.encode(x).latents).sample.clamp(-1, 1)
        out.append(-10 * torch.log10(((x - y) / 2).square().mean()).item())
    return float(np.mean(out))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=24)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--size", type=int, default=128)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--init", help="state dict to continue from")
    args = ap.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    crops, held = Crops(args.seed), data.split()[1]
    vae = AutoencoderTiny(**CONFIG).to(memory_format=torch.channels_last).train()
    if args.init:
        vae.load_state_dict(torch.load(args.init))
    ema = copy.deepcopy(vae).eval()
    opt = torch.optim.AdamW(vae.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-3)
    start, step, log_loss = time.time(), 0, []
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        lr = args.lr * min(1, (step + 1) / 100) * (0.5 * (1 + np.cos(np.pi * done)) * 0.98 + 0.02)
        for g in opt.param_groups:
            g["lr"] = lr
        if step % 100 == 0:
            crops.poll()
        x = crops.batch(args.batch, args.size).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.encode(x).latents
            y = vae.decode(z).sample
        loss = picture_loss(y.float(), x) + 2e-4 * z.float().square().mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        with torch.no_grad():
            k = min(0.998, (step + 1) / (step + 20))
            for e, p in zip(ema.parameters(), vae.parameters()):
                e.lerp_(p, 1 - k)
        log_loss.append(loss.item())
        if step % 100 == 0:
            print(f"{step} {time.time() - start:.0f}s loss {np.mean(log_loss[-100:]):.4f} "
                  f"z std {z.float().std():.2f} shards {len(crops.seen)}", flush=True)
        if step % 500 == 0:
            torch.save(ema.state_dict(), data.WORK / "vae.pt")
            print("psnr512", round(psnr_512(ema, held[:8]), 3), flush=True)
    torch.save(ema.state_dict(), data.WORK / "vae.pt")
    print("final psnr512", round(psnr_512(ema, held), 3), "steps", step, flush=True)


if __name__ == "__main__":
    main()
