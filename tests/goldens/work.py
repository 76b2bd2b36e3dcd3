"""Writes work.json: parameters and arithmetic of published networks at 512x512, counted by PyTorch, not by us.

Modules on the `meta` device hold no values; `FlopCounterMode` counts two operations for each multiply-add of
convolutions, linear layers and attention. A 3x3 convolution behind a nearest doubling is done as four 2x2 ones before
it, and counts so: four ninths of the arithmetic, sixteen ninths of the weights (`stored`).

`dispatches` are the least that a program without other fusion needs: one for each call of a convolution or a linear
layer and one for each attention. Projections of one input count once, and a resnet's shortcut goes with its second
convolution. Norms, activations, gates and sums are done where tensors are read or written. Beside the modules
themselves are the timestep's sine, a text's embedding and its last norm, and what comes before and behind a network:
two for a UNet's sampler, one for pictures on their way in, two on their way out (the clamp or scale, and pixels).
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

import published

HERE = Path(__file__).parent
TOKENS, SIDE, CELL = 77, 512, 8


# Keys go with queries, or with values where they come from the text; values with keys.
GOES_WITH = ("to_v", "k_proj", "v_proj", "conv_shortcut", "attn1.to_k", "attentions.0.to_k", "skip")
ATTENTION = ("Attention", "CLIPAttention")


def count(module, is_doubled, run, beside):
    """Parameters, and operations of `run`; convolutions for which `is_doubled` holds follow a doubling."""
    saved, added, calls = 0, 0, 0

    def hook(conv, _, out):
        nonlocal saved, added
        saved += out.numel() * 2 * 9 * conv.in_channels * 5 // 9
        added += conv.weight.numel() * 7 // 9

    def called(*_):
        nonlocal calls
        calls += 1

    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Conv2d) and is_doubled(name, part):
            part.register_forward_hook(hook)
        is_product = isinstance(part, (torch.nn.Conv2d, torch.nn.Linear))
        if is_product and not name.endswith(GOES_WITH) or type(part).__name__ in ATTENTION:
            part.register_forward_hook(called)
    with FlopCounterMode(display=False) as counter:
        run(module)
    parameters = sum(p.numel() for p in module.parameters())
    flops = counter.get_total_flops() - saved
    return {"parameters": parameters, "stored": parameters + added, "flops": flops, "dispatches": calls + beside}


def unet(config):
    module = UNet2DConditionModel.from_config(config)
    side = SIDE // CELL
    cond = torch.empty(1, config["time_cond_proj_dim"]) if config.get("time_cond_proj_dim") else None
    text = torch.empty(1, TOKENS, config["cross_attention_dim"])
    is_doubled = lambda name, conv: "upsamplers" in name  # noqa: E731
    run = lambda m: m(torch.empty(1, 4, side, side), 999, encoder_hidden_states=text, timestep_cond=cond)  # noqa: E731
    return count(module, is_doubled, run, 3)


def vae(config):
    module = AutoencoderTiny.from_config(config)
    never = lambda name, conv: False  # noqa: E731
    # Only the decoder's convolutions behind a doubling have no bias.
    is_doubled = lambda name, conv: conv.bias is None  # noqa: E731
    encoder = count(module.encoder, never, lambda m: m(torch.empty(1, 3, SIDE, SIDE)), 1)
    decoder = count(module.decoder, is_doubled, lambda m: m(torch.empty(1, 4, SIDE // CELL, SIDE // CELL)), 2)
    return encoder, decoder


def vae_kl(config):
    """An AutoencoderKL, with the convolutions beside its halves."""
    module = AutoencoderKL.from_config(config)
    never = lambda name, conv: False  # noqa: E731
    is_doubled = lambda name, conv: "upsamplers" in name  # noqa: E731
    encoder = torch.nn.Sequential(module.encoder, module.quant_conv)
    decoder = torch.nn.Sequential(module.post_quant_conv, module.decoder)
    encoder = count(encoder, never, lambda m: m(torch.empty(1, 3, SIDE, SIDE)), 1)
    decoder = count(decoder, is_doubled, lambda m: m(torch.empty(1, 4, SIDE // CELL, SIDE // CELL)), 2)
    return encoder, decoder


def text_encoder(config):
    module = CLIPTextModel(CLIPTextConfig(**{k: v for k, v in config.items() if k != "torch_dtype"}))
    run = lambda m: m(torch.zeros(1, TOKENS, dtype=torch.long))  # noqa: E731
    return count(module, lambda name, conv: False, run, 2)


def main():
    torch.set_default_device("meta")
    families = {}
    for name, model in {**published.MODELS, **published.COUNTED}.items():
        family = {"unet": {"config": model["unet"], **unet(model["unet"])}}
        if "text_encoder" in model:
            family["text_encoder"] = {"config": model["text_encoder"], **text_encoder(model["text_encoder"])}
        for part, run in (("vae", vae), ("vae_kl", vae_kl)):
            if part in model:
                encoder, decoder = run(model[part])
                family[part] = {"config": model[part], "encoder": encoder, "decoder": decoder}
        families[name] = family
        print(name, {k: {n: v for n, v in f.items() if n != "config"} for k, f in family.items()})
    (HERE / "work.json").write_text(json.dumps(dict(sorted(families.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
