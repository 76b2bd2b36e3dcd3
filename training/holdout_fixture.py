"""Export what the program's tests check the embedded model with, from a held-out photo.

app/tests/fixtures/demo/: the photo at 256x256 (PNG), the target of every look
for it (JPEG), and for two prompts the final picture as diffusers computes it
in f32 (`img2img_<look>.safetensors`): `img2img.image` [1,3,256,256] in [-1,1],
`img2img.noise` [N,8,32,32] with n_0 added at the start, `img2img.output`.
"""
import json

import cv2
import torch
from diffusers import LCMScheduler, StableDiffusionImg2ImgPipeline
from safetensors.torch import save_file

import data
import looks
import prompts
import train_unet

MODEL = data.HERE.parent / "models/demo"
OUT = data.HERE.parent / "app/tests/fixtures/demo"
PHOTO = 3  # index among the held-out photos
REFERENCES = [("comic", 1, 7), ("watercolour", 2, 8)]  # look, steps, seed


def timesteps(steps, strength):
    """j*20-1 for j=1..L reversed, L=floor(50*strength); entry floor(j*L/N) for step j."""
    count = int(50 * strength)
    listed = [20 * j - 1 for j in range(1, count + 1)][::-1]
    return [listed[j * count // steps] for j in range(steps)]


def noise_like(steps, seed):
    return torch.randn(steps, 8, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def reference(pipe, image, noise, prompt, steps, strength):
    """Encode, noise, LCMScheduler steps, decode; n_j for j>0 is added after step j-1."""
    ids = pipe.tokenizer(prompt, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    hidden, scale = pipe.text_encoder(ids)[0], pipe.vae.config.scaling_factor
    scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(timesteps=timesteps(steps, strength), original_inference_steps=50)
    acp = scheduler.alphas_cumprod
    z = pipe.vae.encode(image).latents * scale
    x = scheduler.add_noise(z, noise[:1], scheduler.timesteps[:1])
    for j, t in enumerate(scheduler.timesteps):
        eps = pipe.unet(x, t, encoder_hidden_states=hidden).sample
        x0 = scheduler.step(eps, t, x, return_dict=False)[1]  # `denoised`
        if j + 1 < steps:
            a = acp[scheduler.timesteps[j + 1]]
            x = a.sqrt() * x0 + (1 - a).sqrt() * noise[j + 1:j + 2]
    return pipe.vae.decode(x0 / scale).sample


def main():
    torch.set_num_threads(2)
    OUT.mkdir(parents=True, exist_ok=True)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
    strength = json.loads((MODEL / "looks.json").read_text())["strength"]
    photo = data.centre_square(data.read_rgb(data.split()[1][PHOTO]), 256)
    cv2.imwrite(str(OUT / "photo.png"), photo[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    for k in looks.NAMES:
        path = str(OUT / f"{k.replace(' ', '_')}.jpg")
        cv2.imwrite(path, looks.apply(k, photo)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    image = train_unet.to_float(torch.from_numpy(photo[None])).contiguous()
    for look, steps, seed in REFERENCES:
        noise = noise_like(steps, seed)
        out = reference(pipe, image, noise, prompts.MAIN[look], steps, strength)
        save_file({"img2img.image": image, "img2img.noise": noise, "img2img.output": out.contiguous()},
                  str(OUT / f"img2img_{look}.safetensors"),
                  metadata={"prompt": prompts.MAIN[look], "steps": str(steps), "strength": str(strength),
                            "guidance": "1.0", "sampler": "lcm"})
    for tensors in OUT.glob("*.safetensors"):
        tensors.chmod(0o644)
    print(sum(f.stat().st_size for f in OUT.iterdir()) / 1e6, "MB")


if __name__ == "__main__":
    main()
