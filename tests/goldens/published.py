"""Configs as they are published, in diffusers' and transformers' words: what `full.py` runs at full size."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benches/compare"))

import configs  # noqa: E402

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"


# Of SD 1.x and, but for the weights, 2.x: stabilityai/sd-vae-ft-mse.
AUTOENCODER_KL = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def sdxs(down, **more):
    """SDXS-512: three levels with one layer each and no mid block (IDKiro/sdxs-512-0.9 and -dreamshaper)."""
    unet = dict(configs.model("sd-turbo", "full")["unet"])
    unet.update(
        block_out_channels=[320, 640, 1280],
        down_block_types=down,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(down)],
        layers_per_block=1,
        mid_block_type=None,
        **more,
    )
    return {"unet": unet}


# name: configs of `unet`, `text_encoder` and `vae_kl` where they are not those of another model
MODELS = {
    "sd-turbo": configs.model("sd-turbo", "full"),
    "lcm-sd15": {**configs.model("lcm-sd15", "full"), "vae_kl": AUTOENCODER_KL},
    # Distilled from SD 2.1: attention on every level.
    "sdxs-0.9": sdxs([CROSS, CROSS, CROSS], attention_head_dim=[5, 10, 20]),
    # Distilled from SD 1.5: none on the first.
    "sdxs-dreamshaper": sdxs(
        [PLAIN, CROSS, CROSS], attention_head_dim=8, cross_attention_dim=768, use_linear_projection=False
    ),
}


def pruned(**more):
    """SD 1.5 with blocks taken out (BK-SDM, arXiv 2305.15798; segmind's small-sd and tiny-sd are of the same kind)."""
    unet = dict(configs.model("lcm-sd15", "full")["unet"], time_cond_proj_dim=None, layers_per_block=1, **more)
    return {"unet": unet}


# Counted only.
COUNTED = {
    "bk-sdm-base": pruned(),
    "bk-sdm-small": pruned(mid_block_type=None),
    "tiny-sd": pruned(
        mid_block_type=None,
        block_out_channels=[320, 640, 1280],
        down_block_types=[CROSS] * 3,
        up_block_types=["CrossAttnUpBlock2D"] * 3,
    ),
}
