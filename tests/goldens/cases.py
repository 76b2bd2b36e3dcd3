"""What the goldens are: sizes of the networks and what is run on them."""

ATTN, PLAIN = True, False


def unet(channels, attention, heads, cross, layers=2, groups=8, size=8, **more):
    """Constructor arguments of a UNet2DConditionModel; `attention` has one flag a level."""
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention))
    return dict(
        sample_size=size, block_out_channels=channels, down_block_types=down, up_block_types=up,
        attention_head_dim=heads, cross_attention_dim=cross, layers_per_block=layers,
        norm_num_groups=groups, **more,
    )


def vae(width, encoder, decoder, latents=4, scale=1.0):
    """Constructor arguments of an AutoencoderTiny."""
    return dict(
        encoder_block_out_channels=(width,) * len(encoder),
        decoder_block_out_channels=(width,) * len(decoder),
        num_encoder_blocks=encoder, num_decoder_blocks=decoder, latent_channels=latents, scaling_factor=scale,
    )


def vae_kl(channels, layers=1, groups=8, latents=4, scale=0.18215, **more):
    """Constructor arguments of an AutoencoderKL."""
    return dict(
        block_out_channels=channels, layers_per_block=layers, norm_num_groups=groups, latent_channels=latents,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels), scaling_factor=scale, **more,
    )


def text(width, inner, layers, heads, act):
    """Constructor arguments of a CLIPTextConfig, without what the tokenizer decides."""
    return dict(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        hidden_act=act, max_position_embeddings=77, projection_dim=width,
    )


SD15 = unet((32, 64), (ATTN, PLAIN), 8, 48)
SMALL = unet((32, 64), (ATTN, PLAIN), 8, 48, layers=1)
SD21 = unet((32, 64, 64), (ATTN, ATTN, PLAIN), (2, 4, 4), 40, layers=1, use_linear_projection=True)
LCM = unet((32, 64), (ATTN, PLAIN), 4, 48, layers=1, time_cond_proj_dim=64)

# name: (network, latent height and width, tokens, one timestep a row)
UNETS = {
    "unet_sd15": (SD15, (16, 12), 77, (999, 259)),
    "unet_sd21": (
        unet((32, 64, 96), (ATTN, ATTN, PLAIN), (2, 4, 6), 64, use_linear_projection=True),
        (16, 16), 77, (999, 499),
    ),
    "unet_lcm_cond": (
        unet((64, 128), (ATTN, ATTN), 8, 32, layers=1, groups=32, time_cond_proj_dim=64),
        (8, 12), 77, (999, 759, 39),
    ),
    "unet_no_mid": (
        unet((32, 64, 96), (PLAIN, ATTN, ATTN), 8, 48, layers=1, mid_block_type=None),
        (8, 16), 16, (999, 1),
    ),
    "unet_uneven": (
        unet((32, 48, 80), (ATTN, PLAIN, ATTN), 4, 32, layers=(1, 2, 1), groups=16,
             transformer_layers_per_block=(1, 1, 2), use_linear_projection=True, norm_eps=1e-6),
        (8, 12), 10, (679, 0),
    ),
    "unet_stream": (
        unet((32, 32, 64, 64), (ATTN, ATTN, ATTN, PLAIN), 8, 32, layers=1),
        (24, 40), 20, (999, 679, 359, 99),
    ),
    "unet_odd_size": (
        unet((32, 64, 64), (ATTN, ATTN, PLAIN), 4, 32, layers=1, freq_shift=1, flip_sin_to_cos=False),
        (10, 14), 12, (499, 20),
    ),
}

# name: (network, picture height and width, batch)
VAES = {
    "vae_default": (vae(16, (1, 3, 3, 3), (3, 3, 3, 1)), (40, 56), 2),
    "vae_uneven": (vae(16, (2, 1, 3), (1, 3, 2)), (28, 44), 1),
    "vae_latents8": (vae(24, (1, 2, 1, 2), (2, 1, 2, 1), latents=8, scale=0.5), (32, 72), 1),
    "vae_kl": (vae_kl((32, 64, 64, 64), layers=2, groups=32), (24, 40), 2),
    # A head too wide for the registers of most kernels.
    "vae_kl_wide": (
        vae_kl((24, 40, 192), use_quant_conv=False, use_post_quant_conv=False), (28, 44), 1,
    ),
    "vae_kl_plain": (
        vae_kl((20, 36), groups=4, latents=6, scale=0.5, mid_block_add_attention=False), (18, 26), 1,
    ),
}

# name: (network, prefix of the weight names, pad token, prompts)
TEXTS = {
    "text_quick_gelu": (
        text(48, 96, 3, 4, "quick_gelu"), "text_model.", "<|endoftext|>",
        ("a glass garden at dawn, the dreamer's light", "Naïve  CAFÉ №7 — 東京 rain!! it's 2026"),
    ),
    "text_gelu": (text(64, 160, 2, 8, "gelu"), "", "!", ("", "glass " * 90)),
}

PROMPT = "a glass garden at dawn, dreaming of light"
NEGATIVE = "blurry, dark rain"
CLIP_A = (text(48, 96, 2, 4, "quick_gelu"), "text_model.", "<|endoftext|>")
CLIP_B = (text(40, 80, 2, 2, "gelu"), "text_model.", "!")
TINY = ((1, 1, 1, 1), (1, 1, 1, 1))
MODEL_LCM = dict(unet=SMALL, vae=vae(16, *TINY, scale=4.0), text=CLIP_A, prediction="epsilon")
MODEL_EMBEDDED = dict(unet=LCM, vae=vae(16, *TINY), text=CLIP_A, prediction="epsilon")
MODEL_TURBO = dict(unet=SD21, vae=vae(16, *TINY, scale=2.5), text=CLIP_B, prediction="epsilon")
MODEL_KL = dict(unet=SMALL, vae=vae_kl((16, 32, 32, 32)), text=CLIP_A, prediction="epsilon")
MODEL_VELOCITY = dict(unet=SD21, vae=vae(16, *TINY, scale=2.5), text=CLIP_B, prediction="v_prediction")


def run(model, sampler, steps, strength, size=(48, 64), guidance=1.0, negative=None, rule="lcm", eta=None):
    """One picture through a whole model."""
    return dict(
        model=model, sampler=sampler, steps=steps, strength=strength, size=size, guidance=guidance,
        negative=negative, rule=rule, eta=eta,
    )


PIPELINES = {
    "img2img_lcm_1": run(MODEL_LCM, "lcm", 1, 0.5, size=(64, 64)),
    "img2img_lcm_2": run(MODEL_LCM, "lcm", 2, 0.7, size=(48, 80)),
    "img2img_lcm_4": run(MODEL_LCM, "lcm", 4, 1.0, size=(64, 64)),
    "img2img_lcm_guided": run(MODEL_LCM, "lcm", 2, 0.8, guidance=1.8, negative=NEGATIVE),
    "img2img_lcm_embedded": run(MODEL_EMBEDDED, "lcm", 2, 0.6, guidance=8.5),
    "img2img_lcm_dropped": run(MODEL_LCM, "lcm", 4, 0.5, rule="img2img"),
    "img2img_lcm_velocity": run(MODEL_VELOCITY, "lcm", 2, 0.7),
    "img2img_tcd_2": run(MODEL_LCM, "tcd", 2, 0.7, eta=0.3),
    "img2img_tcd_4": run(MODEL_LCM, "tcd", 4, 1.0, eta=1.0, size=(64, 64)),
    "img2img_tcd_dropped": run(MODEL_LCM, "tcd", 4, 0.5, rule="img2img", eta=0.0),
    "img2img_tcd_velocity": run(MODEL_VELOCITY, "tcd", 2, 0.7, eta=0.3),
    "img2img_kl": run(MODEL_KL, "euler", 4, 0.5),
    "img2img_euler_1": run(MODEL_TURBO, "euler", 1, 1.0, size=(64, 64)),
    "img2img_euler_2": run(MODEL_TURBO, "euler", 2, 1.0, size=(48, 72)),
    "img2img_euler_2_half": run(MODEL_TURBO, "euler", 2, 0.5),
    "img2img_euler_guided": run(MODEL_TURBO, "euler", 4, 0.5, guidance=2.0, negative=NEGATIVE),
}
