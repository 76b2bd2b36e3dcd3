"""Train the UNet and the text encoder jointly, in the LCM parameterisation, on CPU.

First-step samples: noised latents of the photo -> latents of the look. Later-step samples:
noised latents of the look -> the same. Loss: pseudo-Huber on the denoised latents plus a pixel
loss through the frozen decoder. EMA weights go to $DREAMGLASS_TRAIN_DIR/unet.pt.
"""
import argparse
import copy
import time

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import data
import looks
import prompts
import train_vae

TOKENIZER = data.HERE.parent / "models/demo/tokenizer"
SCALE = 4.0  # vae scaling_factor: latents of unit-and-a-half deviation keep detail under noise
DEFAULT_T = 199  # strength 0.2, one step
UNET = dict(
    sample_size=32, in_channels=8, out_channels=8, block_out_channels=(96, 128), layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2DCrossAttn",
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=16, cross_attention_dim=128,
    attention_head_dim=4,
)


def text_config(tokenizer):
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=128,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id)


def alphas_cumprod():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def boundary(t):
    """c_skip, c_out of LCMScheduler (sigma_data 0.5, timestep scaling 10)."""
    tau = 10.0 * t.double()
    return 0.25 / (tau**2 + 0.25), tau / (tau**2 + 0.25).sqrt()


class Pairs:
    """Photos, targets and their scaled latents, all in memory."""

    def __init__(self, vae, limit):
        files = sorted((data.WORK / "shards").glob("*.npz"))[:limit]
        self.pictures, self.latents = [], []
        for f in files:
            d = np.load(f)
            pictures = np.concatenate([d["photos"][:, None], d["targets"]], 1)
            flat = torch.from_numpy(pictures.reshape(-1, 256, 256, 3))
            kept = f.with_suffix(".pt")  # encoding all shards takes minutes; a second run reads them back
            if not kept.exists():
                zs = [encode(vae, flat[i:i + 30]) for i in range(0, len(flat), 30)]
                torch.save(torch.cat(zs).view(len(pictures), 11, 8, 32, 32), kept)
            self.pictures.append(pictures)
            self.latents.append(torch.load(kept))
            print(f.name, "latents std", round(self.latents[-1].float().std().item(), 3), flush=True)
        self.pictures = np.concatenate(self.pictures)
        self.latents = torch.cat(self.latents)


def to_float(u8):
    """uint8 [B,H,W,3] -> [-1,1] [B,3,H,W] channels_last."""
    return (u8.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encode(vae, u8):
    with torch.autocast("cpu", torch.bfloat16):
        return (vae.encode(to_float(u8)).latents.float() * SCALE).half()


def sample_timesteps(rng, n):
    u, j = rng.random(n), rng.integers(1, 51, n)
    near = rng.integers(1, 21, n)
    t = np.where(u < 0.4, DEFAULT_T, np.where(u < 0.85, near * 20 - 1, j * 20 - 1))
    return torch.from_numpy(t)


def batch(pairs, rng, n, side):
    """Latents of source and target, the target pictures and prompts, on windows of `side` cells."""
    ix, look = rng.integers(0, len(pairs.pictures), n), rng.integers(0, 11, n)
    first = rng.random(n) < 0.8
    y, x = rng.integers(0, 33 - side, 2)
    cut = lambda v: v[..., y:y + side, x:x + side].float()
    source = cut(torch.stack([pairs.latents[i, 0 if f else k] for i, k, f in zip(ix, look, first)]))
    target = cut(torch.stack([pairs.latents[i, k] for i, k in zip(ix, look)]))
    texts = [prompts.sample(prompts.KEYS[k], rng) for k in look]
    picture = pairs.pictures[ix, look, 8 * y:8 * (y + side), 8 * x:8 * (x + side)]
    return torch.from_numpy(picture), source, target, texts


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=25)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--decoded", type=int, default=4, help="samples of a batch with a pixel loss")
    ap.add_argument("--shards", type=int, default=36)
    ap.add_argument("--lr", type=float, default=1.5e-3)
    ap.add_argument("--init", help="checkpoint to continue from")
    args = ap.parse_args()
    torch.manual_seed(4)
    torch.set_num_threads(2)
    rng = np.random.default_rng(4)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    vae = AutoencoderTiny(**train_vae.CONFIG)
    vae.load_state_dict(torch.load(data.WORK / "vae.pt"))
    vae = vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    net = torch.nn.ModuleDict({
        "unet": UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last),
        "text": CLIPTextModel(text_config(tokenizer))})
    if args.init:
        net.load_state_dict(torch.load(args.init))
    print("params", {k: sum(p.numel() for p in m.parameters()) for k, m in net.items()}, flush=True)
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    opt = torch.optim.AdamW(net.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-2)
    pairs, acp = Pairs(vae, args.shards), alphas_cumprod()
    start, step, log = time.time(), 0, []
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        lr = args.lr * min(1, (step + 1) / 60) * (0.5 * (1 + np.cos(np.pi * done)) * 0.98 + 0.02)
        for g in opt.param_groups:
            g["lr"] = lr
        # Windows of a quarter of the picture are four times as fast; whole ones teach its borders.
        whole = step % 5 == 4 or done > 0.85
        sizes = (args.batch // 4, 32, 2) if whole else (args.batch, 16, args.decoded)
        log.append(train_step(net, vae, opt, batch(pairs, rng, *sizes[:2]), sizes[2], acp, tokenizer, rng))
        step += 1
        with torch.no_grad():
            k = min(0.997, (step + 1) / (step + 20))
            for e, p in zip(ema.parameters(), net.parameters()):
                e.lerp_(p, 1 - k)
        if step % 50 == 0:
            latent, pixel = np.mean(log[-50:], 0)
            print(f"{step} {time.time() - start:.0f}s latent {latent:.4f} pixel {pixel:.4f}", flush=True)
        if step % 100 == 0:
            torch.save(ema.state_dict(), data.WORK / "unet.pt")
    torch.save(ema.state_dict(), data.WORK / "unet.pt")
    print("done", step, flush=True)


def train_step(net, vae, opt, sample, n_decoded, acp, tokenizer, rng):
    pictures, source, target, texts = sample
    t = sample_timesteps(rng, len(texts))
    view = lambda v: v.float().view(-1, 1, 1, 1)
    alpha, beta = view(acp[t].sqrt()), view((1 - acp[t]).sqrt())
    c_skip, c_out = map(view, boundary(t))
    x = alpha * source + beta * torch.randn_like(source)
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    with torch.autocast("cpu", torch.bfloat16):
        hidden = net["text"](ids)[0]
        eps = net["unet"](x.contiguous(memory_format=torch.channels_last), t, hidden).sample.float()
    denoised = c_out * (x - beta * eps) / alpha + c_skip * x
    diff = denoised - target
    latent = ((diff.square() + 0.05**2).sqrt() - 0.05).mean((1, 2, 3))
    loss = (latent * alpha.flatten()).mean()
    order = torch.argsort(t)[:n_decoded]  # the least noisy samples carry detail worth a pixel loss
    truth = to_float(pictures[order])
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(denoised[order] / SCALE).sample.float()
    pixel = train_vae.picture_loss(decoded, truth)
    opt.zero_grad(set_to_none=True)
    (loss + pixel).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    return latent.mean().item(), pixel.item()


if __name__ == "__main__":
    main()
