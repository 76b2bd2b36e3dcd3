"""Names and shapes of a checkpoint's tensors, from its config: (name, shape) pairs, in no special order.

Shapes are PyTorch's: [out, in] of linear layers, [out, in, height, width] of convolutions.
"""


def _linear(name, out, into, bias=True):
    yield f"{name}.weight", [out, into]
    if bias:
        yield f"{name}.bias", [out]


def _conv(name, out, into, side=3, bias=True):
    yield f"{name}.weight", [out, into, side, side]
    if bias:
        yield f"{name}.bias", [out]


def _norm(name, width):
    yield f"{name}.weight", [width]
    yield f"{name}.bias", [width]


def _resnet(name, into, out, time):
    yield from _norm(f"{name}.norm1", into)
    yield from _conv(f"{name}.conv1", out, into)
    yield from _linear(f"{name}.time_emb_proj", out, time)
    yield from _norm(f"{name}.norm2", out)
    yield from _conv(f"{name}.conv2", out, out)
    if into != out:
        yield from _conv(f"{name}.conv_shortcut", out, into, side=1)


def _attention(name, width, source):
    yield from _linear(f"{name}.to_q", width, width, bias=False)
    yield from _linear(f"{name}.to_k", width, source, bias=False)
    yield from _linear(f"{name}.to_v", width, source, bias=False)
    yield from _linear(f"{name}.to_out.0", width, width)


def _transformer(name, width, cross, linear_projection):
    yield from _norm(f"{name}.norm", width)
    for projection in ("proj_in", "proj_out"):
        if linear_projection:
            yield from _linear(f"{name}.{projection}", width, width)
        else:
            yield from _conv(f"{name}.{projection}", width, width, side=1)
    block = f"{name}.transformer_blocks.0"
    for index in (1, 2, 3):
        yield from _norm(f"{block}.norm{index}", width)
    yield from _attention(f"{block}.attn1", width, width)
    yield from _attention(f"{block}.attn2", width, cross)
    yield from _linear(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from _linear(f"{block}.ff.net.2", width, 4 * width)


def unet(config):
    """A `UNet2DConditionModel` with one transformer block a transformer, as SD 1.x and 2.x have."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    cross, is_linear = config["cross_attention_dim"], config.get("use_linear_projection", False)
    time, last = 4 * channels[0], len(channels) - 1
    yield from _conv("conv_in", channels[0], config["in_channels"])
    yield from _linear("time_embedding.linear_1", time, channels[0])
    yield from _linear("time_embedding.linear_2", time, time)
    if config.get("time_cond_proj_dim"):
        yield from _linear("time_embedding.cond_proj", channels[0], config["time_cond_proj_dim"], bias=False)

    width, skips = channels[0], [channels[0]]
    for level, kind in enumerate(config["down_block_types"]):
        name = f"down_blocks.{level}"
        for i in range(layers):
            yield from _resnet(f"{name}.resnets.{i}", width, channels[level], time)
            width = channels[level]
            skips.append(width)
            if kind.startswith("CrossAttn"):
                yield from _transformer(f"{name}.attentions.{i}", width, cross, is_linear)
        if level < last:
            yield from _conv(f"{name}.downsamplers.0.conv", width, width)
            skips.append(width)

    for i in (0, 1):
        yield from _resnet(f"mid_block.resnets.{i}", width, width, time)
    yield from _transformer("mid_block.attentions.0", width, cross, is_linear)

    for block, kind in enumerate(config["up_block_types"]):
        name, out = f"up_blocks.{block}", channels[last - block]
        for i in range(layers + 1):
            yield from _resnet(f"{name}.resnets.{i}", width + skips.pop(), out, time)
            width = out
            if kind.startswith("CrossAttn"):
                yield from _transformer(f"{name}.attentions.{i}", width, cross, is_linear)
        if block < last:
            yield from _conv(f"{name}.upsamplers.0.conv", width, width)
    yield from _norm("conv_norm_out", width)
    yield from _conv("conv_out", config["out_channels"], width)


def _tiny_block(name, width):
    for index in (0, 2, 4):
        yield from _conv(f"{name}.conv.{index}", width, width)


def vae(config):
    """An `AutoencoderTiny`: the layers of two `Sequential`s, counted with those that have no weights."""
    width, latents = config["encoder_block_out_channels"][0], config["latent_channels"]
    layer = 0
    for level, blocks in enumerate(config["num_encoder_blocks"]):
        into = config["in_channels"] if level == 0 else width
        yield from _conv(f"encoder.layers.{layer}", width, into, bias=level == 0)
        for i in range(blocks):
            yield from _tiny_block(f"encoder.layers.{layer + 1 + i}", width)
        layer += 1 + blocks
    yield from _conv(f"encoder.layers.{layer}", latents, width)

    width = config["decoder_block_out_channels"][0]
    yield from _conv("decoder.layers.0", width, latents)
    layer, last = 2, len(config["num_decoder_blocks"]) - 1
    for level, blocks in enumerate(config["num_decoder_blocks"]):
        for i in range(blocks):
            yield from _tiny_block(f"decoder.layers.{layer + i}", width)
        layer += blocks
        if level < last:
            yield from _conv(f"decoder.layers.{layer + 1}", width, width, bias=False)
            layer += 2
    yield from _conv(f"decoder.layers.{layer}", config["out_channels"], width)


def text_encoder(config):
    """A `CLIPTextModel`, with the prefix that checkpoints have."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    yield "text_model.embeddings.token_embedding.weight", [config["vocab_size"], width]
    yield "text_model.embeddings.position_embedding.weight", [config["max_position_embeddings"], width]
    for layer in range(config["num_hidden_layers"]):
        name = f"text_model.encoder.layers.{layer}"
        yield from _norm(f"{name}.layer_norm1", width)
        for part in ("q", "k", "v", "out"):
            yield from _linear(f"{name}.self_attn.{part}_proj", width, width)
        yield from _norm(f"{name}.layer_norm2", width)
        yield from _linear(f"{name}.mlp.fc1", inner, width)
        yield from _linear(f"{name}.mlp.fc2", width, inner)
    yield from _norm("text_model.final_layer_norm", width)


NETWORKS = {
    "unet": (unet, "diffusion_pytorch_model.safetensors"),
    "vae": (vae, "diffusion_pytorch_model.safetensors"),
    "text_encoder": (text_encoder, "model.safetensors"),
}


def tensors(part, config):
    """The tensors of one folder of a model, sorted by name."""
    return sorted(NETWORKS[part][0](config))
