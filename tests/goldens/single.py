"""Writes single/: what diffusers makes of files of one piece, in the names of the original code.

Names and shapes are listed here as the original code counts its blocks (CompVis/stable-diffusion,
`ldm/modules/diffusionmodules`; OpenCLIP; madebyollin/taesd), narrow but with all blocks of the published models.
Diffusers' own conversion gives them its names, and every tensor must find its place. Values are seeded by the file's
names. Also writes the ids of OpenCLIP's tokenizer, which has the published vocabulary. Needs open_clip_torch, too.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders import single_file_utils as convert
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

import weights
from generate import given, sort_metadata

HERE = Path(__file__).parent / "single"
CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
PROMPTS = [
    "",
    "an oil painting of a cat, by Rembrandt",
    "Café-Ñandú  in\tTOKYO!!! 1234567890",
    "it's a dog's life; we're here, they'll go",
    "笑顔の猫 🐱👩‍🚀 naïve œuvre",
    "supercalifragilisticexpialidocious_snake_case.jpeg",
]


def pair(name, shape, bias=True):
    return [(f"{name}.weight", shape)] + ([(f"{name}.bias", shape[:1])] if bias else [])


def resnet(base, into, out, time):
    rows = pair(f"{base}.in_layers.0", [into]) + pair(f"{base}.in_layers.2", [out, into, 3, 3])
    rows += pair(f"{base}.emb_layers.1", [out, time])
    rows += pair(f"{base}.out_layers.0", [out]) + pair(f"{base}.out_layers.3", [out, out, 3, 3])
    return rows + (pair(f"{base}.skip_connection", [out, into, 1, 1]) if into != out else [])


def transformer(base, c, text, is_linear):
    kernel = [] if is_linear else [1, 1]
    rows = pair(f"{base}.norm", [c]) + pair(f"{base}.proj_in", [c, c, *kernel])
    block = f"{base}.transformer_blocks.0"
    for attention, width in (("attn1", c), ("attn2", text)):
        for projection, into in (("to_q", c), ("to_k", width), ("to_v", width)):
            rows += pair(f"{block}.{attention}.{projection}", [c, into], bias=False)
        rows += pair(f"{block}.{attention}.to_out.0", [c, c])
    for norm in ("norm1", "norm2", "norm3"):
        rows += pair(f"{block}.{norm}", [c])
    rows += pair(f"{block}.ff.net.0.proj", [8 * c, c]) + pair(f"{block}.ff.net.2", [c, 4 * c])
    return rows + pair(f"{base}.proj_out", [c, c, *kernel])


def unet(channels, text, is_linear):
    """Two resnets a level on the way down, three on the way up; transformers on all levels but the last."""
    base, time = "model.diffusion_model.", 4 * channels[0]
    rows = pair("time_embed.0", [time, channels[0]]) + pair("time_embed.2", [time, time])
    rows += pair("input_blocks.0.0", [channels[0], 4, 3, 3])
    ix, c, stack = 1, channels[0], [channels[0]]
    for level, out in enumerate(channels):
        for _ in range(2):
            rows += resnet(f"input_blocks.{ix}.0", c, out, time)
            if level < len(channels) - 1:
                rows += transformer(f"input_blocks.{ix}.1", out, text, is_linear)
            c = out
            stack.append(c)
            ix += 1
        if level < len(channels) - 1:
            rows += pair(f"input_blocks.{ix}.0.op", [c, c, 3, 3])
            stack.append(c)
            ix += 1
    rows += resnet("middle_block.0", c, c, time) + transformer("middle_block.1", c, text, is_linear)
    rows += resnet("middle_block.2", c, c, time)
    ix = 0
    for level, out in reversed(list(enumerate(channels))):
        for layer in range(3):
            rows += resnet(f"output_blocks.{ix}.0", c + stack.pop(), out, time)
            has_text = level < len(channels) - 1
            if has_text:
                rows += transformer(f"output_blocks.{ix}.1", out, text, is_linear)
            if layer == 2 and level > 0:
                rows += pair(f"output_blocks.{ix}.{2 if has_text else 1}.conv", [out, out, 3, 3])
            c = out
            ix += 1
    rows += pair("out.0", [c]) + pair("out.2", [4, c, 3, 3])
    return [(base + name, shape) for name, shape in rows]


def vae_resnet(base, into, out):
    rows = pair(f"{base}.norm1", [into]) + pair(f"{base}.conv1", [out, into, 3, 3])
    rows += pair(f"{base}.norm2", [out]) + pair(f"{base}.conv2", [out, out, 3, 3])
    return rows + (pair(f"{base}.nin_shortcut", [out, into, 1, 1]) if into != out else [])


def vae_mid(base, c):
    rows = vae_resnet(f"{base}.block_1", c, c) + pair(f"{base}.attn_1.norm", [c])
    for projection in ("q", "k", "v", "proj_out"):
        rows += pair(f"{base}.attn_1.{projection}", [c, c, 1, 1])
    return rows + vae_resnet(f"{base}.block_2", c, c)


def vae(channels):
    rows, c = pair("encoder.conv_in", [channels[0], 3, 3, 3]), channels[0]
    for level, out in enumerate(channels):
        for ix in range(2):
            rows += vae_resnet(f"encoder.down.{level}.block.{ix}", c, out)
            c = out
        if level < len(channels) - 1:
            rows += pair(f"encoder.down.{level}.downsample.conv", [c, c, 3, 3])
    rows += vae_mid("encoder.mid", c) + pair("encoder.norm_out", [c]) + pair("encoder.conv_out", [8, c, 3, 3])
    rows += pair("quant_conv", [8, 8, 1, 1]) + pair("post_quant_conv", [4, 4, 1, 1])
    rows += pair("decoder.conv_in", [c, 4, 3, 3]) + vae_mid("decoder.mid", c)
    for level, out in reversed(list(enumerate(channels))):
        for ix in range(3):
            rows += vae_resnet(f"decoder.up.{level}.block.{ix}", c, out)
            c = out
        if level > 0:
            rows += pair(f"decoder.up.{level}.upsample.conv", [c, c, 3, 3])
    rows += pair("decoder.norm_out", [c]) + pair("decoder.conv_out", [3, c, 3, 3])
    return [(f"first_stage_model.{name}", shape) for name, shape in rows]


def clip(c, layers, tokens):
    base = "cond_stage_model.transformer.text_model."
    rows = [("embeddings.token_embedding.weight", [49408, c]), ("embeddings.position_embedding.weight", [tokens, c])]
    for ix in range(layers):
        layer = f"encoder.layers.{ix}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            rows += pair(f"{layer}.self_attn.{projection}", [c, c])
        rows += pair(f"{layer}.layer_norm1", [c]) + pair(f"{layer}.layer_norm2", [c])
        rows += pair(f"{layer}.mlp.fc1", [2 * c, c]) + pair(f"{layer}.mlp.fc2", [c, 2 * c])
    rows += pair("final_layer_norm", [c])
    return [(base + name, shape) for name, shape in rows]


def open_clip(c, layers, tokens, words, inner):
    """One layer more than is read."""
    rows = [("token_embedding.weight", [words, c]), ("positional_embedding", [tokens, c])]
    for ix in range(layers + 1):
        block = f"transformer.resblocks.{ix}"
        rows += [(f"{block}.attn.in_proj_weight", [3 * c, c]), (f"{block}.attn.in_proj_bias", [3 * c])]
        rows += pair(f"{block}.attn.out_proj", [c, c]) + pair(f"{block}.ln_1", [c]) + pair(f"{block}.ln_2", [c])
        rows += pair(f"{block}.mlp.c_fc", [inner, c]) + pair(f"{block}.mlp.c_proj", [c, inner])
    rows += pair("ln_final", [c]) + [("text_projection", [c, c])]
    return [(f"cond_stage_model.model.{name}", shape) for name, shape in rows]


def taesd():
    """Two files, as one list with prefixes."""
    rows = [("encoder." + name, shape) for name, shape in pair("0", [64, 3, 3, 3])]
    block = lambda name: [row for ix in (0, 2, 4) for row in pair(f"{name}.conv.{ix}", [64, 64, 3, 3])]  # noqa: E731
    # Convolutions that halve and double have no bias.
    for ix in (2, 6, 10):
        rows += pair(f"encoder.{ix}", [64, 64, 3, 3], bias=False)
    for ix in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
        rows += block(f"encoder.{ix}")
    rows += pair("encoder.14", [4, 64, 3, 3])
    rows += pair("decoder.1", [64, 4, 3, 3])
    for ix in (7, 12, 17):
        rows += pair(f"decoder.{ix}", [64, 64, 3, 3], bias=False)
    for ix in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        rows += block(f"decoder.{ix}")
    return rows + pair("decoder.19", [3, 64, 3, 3])


def value(name, shape):
    """Names without an end are biases where they have one dimension."""
    seed = name if len(shape) > 1 or name.endswith((".weight", ".bias")) else name + ".bias"
    return torch.from_numpy(weights.tensor(seed, shape))


def load(module, state):
    module.load_state_dict(state, strict=True)
    return module.eval()


def run_unet(case, file, channels, heads, text, is_linear):
    module = UNet2DConditionModel(
        block_out_channels=channels,
        down_block_types=[CROSS] * 3 + [PLAIN],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        attention_head_dim=heads,
        cross_attention_dim=text,
        use_linear_projection=is_linear,
    )
    load(module, convert.convert_ldm_unet_checkpoint(file, dict(module.config)))
    sample, states = given(case, "sample", (1, 4, 16, 24)), given(case, "encoder_hidden_states", (1, 9, text))
    return {
        "unet.sample": sample,
        "unet.encoder_hidden_states": states,
        "unet.noise_pred": module(sample, 499, encoder_hidden_states=states).sample,
    }


def run_vae(case, file, channels):
    module = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
    )
    load(module, convert.convert_ldm_vae_checkpoint(file, dict(module.config)))
    image, latents = given(case, "image", (1, 3, 32, 48)), given(case, "latents", (1, 4, 4, 6))
    return {
        "vae_encoder.image": image,
        "vae_encoder.latents": module.encode(image).latent_dist.mode(),
        "vae_decoder.latents": latents,
        "vae_decoder.image": module.decode(latents).sample,
    }


def run_text(state, words, c, layers, tokens, inner, heads, activation):
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=c,
        num_hidden_layers=layers,
        max_position_embeddings=tokens,
        intermediate_size=inner,
        num_attention_heads=heads,
        hidden_act=activation,
    )
    module = CLIPTextModel(config)
    # transformers 5 leaves the first part of the names out.
    strip = "text_model." not in next(iter(module.state_dict()))
    named = {name.removeprefix("text_model.") if strip else name: value for name, value in state.items()}
    ids = torch.tensor([[(37 * ix + 11) % words for ix in range(tokens)]])
    return {
        "text_encoder.input_ids": ids.to(torch.int32),
        "text_encoder.hidden_states": load(module, named)(ids).last_hidden_state,
    }


def sd1(case):
    channels, text = [32, 32, 64, 64], 48
    rows = unet(channels, text, False) + vae(channels) + clip(text, 2, 77)
    file = {name: value(name, shape) for name, shape in rows}
    results = run_unet(case, file, channels, 8, text, False) | run_vae(case, file, channels)
    state = convert.convert_ldm_clip_checkpoint(file)
    return rows, results | run_text(state, 49408, text, 2, 77, 2 * text, 1, "quick_gelu")


def sd2(case):
    channels, text, words, inner = [64, 64, 128, 128], 1024, 128, 256
    rows = unet(channels, text, True) + open_clip(text, 2, 16, words, inner)
    file = {name: value(name, shape) for name, shape in rows}
    results = run_unet(case, file, channels, [1, 1, 2, 2], text, True)
    # Its head is read one layer earlier.
    keys = {name: value for name, value in file.items() if ".resblocks.2." not in name}
    config = CLIPTextConfig(hidden_size=text, intermediate_size=inner, num_hidden_layers=2, vocab_size=words)
    state = convert.convert_open_clip_checkpoint(CLIPTextModel(config), keys)
    state = {name: value for name, value in state.items() if name != "text_projection.weight"}
    state = {name if name.startswith("text_model.") else f"text_model.{name}": v for name, v in state.items()}
    return rows, results | run_text(state, words, text, 2, 16, inner, 16, "gelu")


def own(case):
    rows = taesd()
    module = AutoencoderTiny()
    state = {}
    for name, shape in rows:
        half, ix, rest = name.split(".", 2)
        # The decoder begins with a clamp, which diffusers has elsewhere.
        state[f"{half}.layers.{int(ix) - (half == 'decoder')}.{rest}"] = value(name, shape)
    load(module, state)
    image, latents = given(case, "image", (1, 3, 24, 40)).clamp(-1, 1), given(case, "latents", (1, 4, 3, 5))
    return rows, {
        "vae_encoder.image": image,
        "vae_encoder.latents": module.encode(image).latents,
        "vae_decoder.latents": latents,
        "vae_decoder.image": module.decode(latents).sample,
    }


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shutil.rmtree(HERE, ignore_errors=True)
    for case, make in (("sd1", sd1), ("sd2", sd2), ("taesd", own)):
        rows, results = make(f"single.{case}")
        (HERE / case).mkdir(parents=True)
        lines = ",\n".join(json.dumps([name, shape]) for name, shape in rows)
        (HERE / case / "tensors.json").write_text(f"[\n{lines}\n]\n")
        path = HERE / case / "reference.safetensors"
        save_file({name: value.contiguous() for name, value in results.items()}, path)
        sort_metadata(path)
    tokenizer = SimpleTokenizer()
    ids = [{"prompt": prompt, "ids": tokenizer.encode(prompt)} for prompt in PROMPTS]
    (HERE / "prompts.json").write_text(json.dumps(ids, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
