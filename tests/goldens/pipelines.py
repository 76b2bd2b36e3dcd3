"""Pictures into pictures: diffusers' schedulers and networks, one step at a time."""

import json
from unittest import mock

import diffusers
import torch
from diffusers import (
    EulerDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LCMScheduler,
    TCDScheduler,
    StableDiffusionImg2ImgPipeline,
)

import tokenizer as tok

BETAS = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PATCHED = [
    "diffusers.schedulers.scheduling_lcm.randn_tensor",
    "diffusers.schedulers.scheduling_tcd.randn_tensor",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor",
    "diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_img2img.randn_tensor",
]


# Draws around the mean of an AutoencoderKL's latents.
SAMPLED = "diffusers.models.autoencoders.vae.randn_tensor"


class given_noise:
    """Makes diffusers draw the given noises in order, and nothing else but latents at their mean."""

    def __init__(self, noises):
        self.left = list(noises)
        self.patches = [mock.patch(name, self.draw) for name in PATCHED]
        self.patches.append(mock.patch(SAMPLED, lambda shape, **_: torch.zeros(shape)))

    def draw(self, shape, generator=None, device=None, dtype=None, layout=None):
        noise = self.left.pop(0)
        assert tuple(shape) == tuple(noise.shape), (shape, noise.shape)
        return noise.clone()

    def __enter__(self):
        for patch in self.patches:
            patch.start()
        return self

    def __exit__(self, *_):
        for patch in self.patches:
            patch.stop()


def scheduler(sampler, prediction):
    if sampler == "lcm":
        made, more = LCMScheduler, dict(clip_sample=False, set_alpha_to_one=False)
    elif sampler == "tcd":
        made, more = TCDScheduler, dict(clip_sample=False, set_alpha_to_one=False)
    else:
        made, more = EulerDiscreteScheduler, dict(timestep_spacing="trailing")
    return made(**BETAS, **more, steps_offset=1, prediction_type=prediction)


def lcm_timesteps(steps, strength):
    """The LCM rule written out: every 20th timestep up to the strength, spread over the steps."""
    count = int(50 * strength)
    origin = [20 * j - 1 for j in range(count, 0, -1)]
    return [origin[j * count // steps] for j in range(steps)]


def timesteps(sched, case):
    """Sets the scheduler; returns the timesteps that are run."""
    n, strength = case["steps"], case["strength"]
    if case["sampler"] in ("lcm", "tcd") and case["rule"] == "lcm":
        # TCD's takes the distillation's timesteps only where their number is left to its config.
        more = {"original_inference_steps": 50} if case["sampler"] == "lcm" else {}
        sched.set_timesteps(n, strength=strength, **more)
        assert sched.timesteps.tolist() == lcm_timesteps(n, strength)
        return sched.timesteps
    sched.set_timesteps(n)
    if case["sampler"] == "euler":
        trailing = [round(1000 - 1000 * j / n) - 1 for j in range(n)]
        assert [round(t) for t in sched.timesteps.tolist()] == trailing
    first = n - min(int(n * strength), n)
    sched.set_begin_index(first)
    return sched.timesteps[first:]


def guidance_embedding(guidance, dim):
    w = torch.tensor([guidance - 1.0])
    return StableDiffusionImg2ImgPipeline.get_guidance_scale_embedding(None, w, dim)


def encode(vae, image):
    """Latents of either kind of autoencoder: the mean where it predicts a distribution."""
    encoded = vae.encode(image)
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents


def step_by_step(nets, case, embeddings, image, noises):
    """Returns the picture, its latents before decoding and the timesteps."""
    unet, vae = nets["unet"], nets["vae"]
    sched = scheduler(case["sampler"], case["model"]["prediction"])
    ts = timesteps(sched, case)
    guidance, dim = case["guidance"], unet.config.time_cond_proj_dim
    cond = guidance_embedding(guidance, dim) if dim else None
    guided = guidance > 1 and not dim
    x = sched.add_noise(encode(vae, image) * vae.config.scaling_factor, noises[0], ts[:1])
    for i, t in enumerate(ts):
        scaled = sched.scale_model_input(x, t)

        def predict(row):
            return unet(scaled, t, encoder_hidden_states=embeddings[row : row + 1], timestep_cond=cond).sample

        noise_pred = predict(0)
        if guided:
            unguided = predict(1)
            noise_pred = unguided + guidance * (noise_pred - unguided)
        last = i + 1 == len(ts)
        with given_noise([] if last else [noises[i + 1]]):
            more = {"eta": case["eta"]} if case["sampler"] == "tcd" else {}
            x = sched.step(noise_pred, t, x, return_dict=True, **more).prev_sample
    latents = x / vae.config.scaling_factor
    return vae.decode(latents).sample, latents, [int(t) for t in ts]


def whole_pipeline(nets, case, prompt, image, noises):
    """The picture of diffusers' own pipeline, or None where none has the case's strength rule."""
    model = case["model"]
    parts = dict(
        unet=nets["unet"], vae=nets["vae"], text_encoder=nets["text_encoder"], tokenizer=nets["tokenizer"],
        scheduler=scheduler(case["sampler"], model["prediction"]), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )
    by_lcm = case["sampler"] in ("lcm", "tcd") and case["rule"] == "lcm"
    how = dict(
        prompt=prompt, image=image, num_inference_steps=case["steps"], strength=case["strength"],
        guidance_scale=case["guidance"], output_type="pt",
    )
    if case["sampler"] == "tcd":
        how["eta"] = case["eta"]
    if by_lcm and nets["unet"].config.time_cond_proj_dim:
        pipe = LatentConsistencyModelImg2ImgPipeline(**parts)
        how["original_inference_steps"] = 50
    elif not by_lcm or case["strength"] == 1.0:
        pipe = StableDiffusionImg2ImgPipeline(**parts)
        how["negative_prompt"] = case["negative"]
    else:
        return None
    pipe.set_progress_bar_config(disable=True)
    with given_noise(noises):
        return pipe(**how).images * 2 - 1


def write_index(path, case, vae):
    """model_index.json and the scheduler's config, as text-to-image checkpoints have them."""
    sched = scheduler(case["sampler"], case["model"]["prediction"])
    sched.save_config(path / "scheduler")
    embedded = case["model"]["unet"].get("time_cond_proj_dim")
    index = {
        "_class_name": "LatentConsistencyModelPipeline" if embedded else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__, "feature_extractor": [None, None],
        "requires_safety_checker": False, "safety_checker": [None, None],
        "scheduler": ["diffusers", type(sched).__name__], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", type(vae).__name__],
    }
    (path / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def embed(nets, prompts):
    """Token ids and last hidden states after the final layer norm, causal mask only."""
    ids = tok.encode(nets["tokenizer"], prompts)
    return ids, nets["text_encoder"](ids).last_hidden_state
