"""Configs of the compared models as they are published, in diffusers' and transformers' words.

`full` has the sizes that people run: stabilityai/sd-turbo, SimianLuo/LCM_Dreamshaper_v7 (SD 1.5 with a
guidance embedding) and madebyollin/taesd. `small` keeps their structure - levels, blocks, kinds of
attention, projections - and shrinks widths, for dry runs.
"""

SCALES = ("full", "small")
CROSS = "CrossAttn"


def _unet(**more):
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.24.0",
        "act_fn": "silu",
        "center_input_sample": False,
        "down_block_types": [*[CROSS + "DownBlock2D"] * 3, "DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "only_cross_attention": False,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D", *[CROSS + "UpBlock2D"] * 3],
        **more,
    }


def _text(**more):
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "pad_token_id": 1,
        "torch_dtype": "float16",
        **more,
    }


def _vae(width):
    return {
        "_class_name": "AutoencoderTiny",
        "_diffusers_version": "0.24.0",
        "act_fn": "relu",
        "decoder_block_out_channels": [width] * 4,
        "encoder_block_out_channels": [width] * 4,
        "force_upcast": False,
        "in_channels": 3,
        "latent_channels": 4,
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "num_decoder_blocks": [3, 3, 3, 1],
        "num_encoder_blocks": [1, 3, 3, 3],
        "out_channels": 3,
        "scaling_factor": 1.0,
        "upsampling_scaling_factor": 2,
    }


def _scheduler(kind, **more):
    return {
        "_class_name": kind,
        "_diffusers_version": "0.24.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "steps_offset": 1,
        **more,
    }


def _sd_turbo(scale):
    channels, heads, width = [320, 640, 1280, 1280], [5, 10, 20, 20], 1024
    text = {
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "vocab_size": 49408,
    }
    if scale == "small":
        channels, heads, width = [64, 128, 256, 256], [1, 2, 4, 4], 128
        text = {
            "intermediate_size": 256,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "vocab_size": 2048,
        }
    return {
        "unet": _unet(
            attention_head_dim=heads,
            block_out_channels=channels,
            cross_attention_dim=width,
            use_linear_projection=True,
        ),
        "text_encoder": _text(hidden_act="gelu", hidden_size=width, projection_dim=512, **text),
        "scheduler": _scheduler("EulerDiscreteScheduler", timestep_spacing="trailing"),
        "pad_token": "!",
    }


def _lcm_sd15(scale):
    channels, width = [320, 640, 1280, 1280], 768
    text = {
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 49408,
    }
    if scale == "small":
        channels, width = [64, 128, 256, 256], 96
        text = {
            "intermediate_size": 192,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "vocab_size": 2048,
        }
    return {
        "unet": _unet(
            attention_head_dim=8,
            block_out_channels=channels,
            cross_attention_dim=width,
            time_cond_proj_dim=256,
        ),
        "text_encoder": _text(hidden_act="quick_gelu", hidden_size=width, projection_dim=width, **text),
        "scheduler": _scheduler(
            "LCMScheduler", clip_sample=False, original_inference_steps=50, set_alpha_to_one=True
        ),
        "pad_token": "<|endoftext|>",
    }


MODELS = {"sd-turbo": _sd_turbo, "lcm-sd15": _lcm_sd15}


def model(name, scale):
    """The configs of model `name` at `scale`: unet, vae, text_encoder and scheduler, and the pad token."""
    if scale not in SCALES:
        raise ValueError(f"scale is `{scale}`, expected one of {', '.join(SCALES)}")
    return {**MODELS[name](scale), "vae": _vae(64 if scale == "full" else 16)}


def model_index(configs):
    """`model_index.json`: which class reads which folder."""
    return {
        "_class_name": "StableDiffusionImg2ImgPipeline",
        "_diffusers_version": "0.24.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", configs["scheduler"]["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
