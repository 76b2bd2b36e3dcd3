"""Figures of models/demo on the held-out photos, with diffusers in f32: figures.json and grid.jpg.

VAE round trip (PSNR at 512), for every look the share of the change that one step explains and
how often the output is nearest to its own target, and the frame-to-frame change on a clip.
"""
import argparse
import json
import subprocess

import cv2
import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline

import data
import looks
import prompts
import train_unet

MODEL = data.HERE.parent / "models/demo"


class Demo:
    """One-step img2img at the strength of looks.json, with fixed noise."""

    def __init__(self):
        self.pipe = StableDiffusionImg2ImgPipeline.from_pretrained(MODEL, torch_dtype=torch.float32,
                                                                  safety_checker=None)
        self.strength = json.loads((MODEL / "looks.json").read_text())["strength"]
        self.t = torch.tensor([int(50 * self.strength) * 20 - 1])
        self.scale = self.pipe.vae.config.scaling_factor
        self.noise = torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(0))
        self.acp = train_unet.alphas_cumprod()[self.t].float().view(-1, 1, 1, 1)

    def hidden(self, prompt):
        ids = self.pipe.tokenizer(prompt, padding="max_length", truncation=True, max_length=77,
                                  return_tensors="pt").input_ids
        return self.pipe.text_encoder(ids)[0]

    @torch.no_grad()
    def __call__(self, u8, prompt):
        """uint8 [B,256,256,3] -> [-1,1] [B,3,256,256]."""
        z = self.pipe.vae.encode(train_unet.to_float(torch.from_numpy(u8))).latents * self.scale
        alpha, beta = self.acp.sqrt(), (1 - self.acp).sqrt()
        x = alpha * z + beta * self.noise
        hidden = self.hidden(prompt).expand(len(z), -1, -1)
        eps = self.pipe.unet(x, self.t.expand(len(z)), hidden).sample
        c_skip, c_out = (v.float().view(-1, 1, 1, 1) for v in train_unet.boundary(self.t))
        return self.pipe.vae.decode((c_out * (x - beta * eps) / alpha + c_skip * x) / self.scale).sample


@torch.no_grad()
def vae_psnr(demo, names):
    values = []
    for n in names:
        x = train_unet.to_float(torch.from_numpy(data.centre_square(data.read_rgb(n), 512)[None]))
        y = demo.pipe.vae.decode(demo.pipe.vae.encode(x).latents).sample.clamp(-1, 1)
        values.append(10 * np.log10(4 / (x - y).square().mean().item()))
    return round(float(np.mean(values)), 2)


def look_figures(demo, photos):
    """Per look: explained change and share of photos whose output is nearest to its own target."""
    targets = {k: np.stack([looks.apply(k, p) for p in photos]) for k in looks.NAMES}
    signed = {k: train_unet.to_float(torch.from_numpy(v)) for k, v in targets.items()}
    source = train_unet.to_float(torch.from_numpy(photos))
    mse = lambda a, b: (a - b).square().mean((1, 2, 3))
    figures, outs = {}, {}
    for k in looks.NAMES:
        outs[k] = torch.cat([demo(photos[i:i + 8], prompts.MAIN[k]) for i in range(0, len(photos), 8)]).clamp(-1, 1)
        explained = 1 - mse(outs[k], signed[k]) / mse(source, signed[k])
        errors = torch.stack([mse(outs[k], signed[j]) for j in looks.NAMES])
        nearest = (errors.argmin(0) == looks.NAMES.index(k)).float().mean()
        figures[k] = {"explained": round(explained.mean().item(), 3), "least": round(explained.min().item(), 3),
                      "nearest": round(nearest.item(), 3)}
    return figures, outs


def stability(demo, clip, prompt, frames=24):
    """Mean frame-to-frame change of the output over that of the input."""
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", clip, "-vf", "scale=256:256:force_original_aspect_ratio="
                          "increase,crop=256:256", "-frames:v", str(frames), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
                         capture_output=True, check=True).stdout
    video = np.frombuffer(raw, np.uint8).reshape(-1, 256, 256, 3)
    out = torch.cat([demo(video[i:i + 8].copy(), prompt) for i in range(0, len(video), 8)]).clamp(-1, 1)
    change = lambda v: (v[1:] - v[:-1]).abs().mean().item()
    return round(change(out) / change(train_unet.to_float(torch.from_numpy(video.copy()))), 3)


def grid(photos, outs, path, rows=(6, 5, 8, 1), size=160):
    """Photo and looks side by side."""
    cells = []
    for i in rows:
        row = [photos[i]] + [((v[i].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8) for v in outs.values()]
        cells.append(np.concatenate([cv2.resize(c, (size, size), interpolation=cv2.INTER_AREA) for c in row], 1))
    picture = cv2.cvtColor(np.concatenate(cells), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--photos", type=int, default=24)
    args = ap.parse_args()
    torch.set_num_threads(2)
    demo, names = Demo(), data.split()[1][:args.photos]
    photos = np.stack([data.centre_square(data.read_rgb(n), 256) for n in names])
    figures, outs = look_figures(demo, photos)
    clip = str(data.VIDEO / "street_bikes.mp4")
    result = {"photos": len(names), "strength": demo.strength, "vae_psnr_512": vae_psnr(demo, names), "looks": figures,
              "frame_change_ratio": {k: stability(demo, clip, prompts.MAIN[k]) for k in looks.NAMES}}
    (data.HERE / "figures.json").write_text(json.dumps(result, indent=2) + "\n")
    grid(photos, outs, data.HERE / "grid.jpg")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
