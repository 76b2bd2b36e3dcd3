//! Autoencoders: those of the original code, as AutoencoderKL, and TAESD's own layout.

use serde_json::{Value, json};

use super::numbers;
use super::part::{Names, Part};

/// Modules of a resnet block of AutoencoderKL that have another name.
const RESNET: [(&str, &str); 5] = [
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("nin_shortcut", "conv_shortcut"),
];
/// Modules of its attention.
const ATTENTION: [(&str, &str); 5] =
    [("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];
/// Factor from the latents of SD 1.x and 2.x to unit variance; not in the file.
const SCALING_FACTOR: f64 = 0.18215;

/// Names and config of an autoencoder of either kind.
///
/// # Errors
/// That it is neither, or what is missing.
pub(super) fn describe(part: &Part<'_>) -> Result<Names, String> {
    // As one file that holds both halves: ComfyUI's, and diffusers'.
    for (halves, shift) in
        [(["taesd_encoder", "taesd_decoder"], 1), (["encoder.layers", "decoder.layers"], 0)]
    {
        if halves.iter().all(|half| part.has(half)) {
            return tiny(part, halves, shift);
        }
    }
    if part.has("decoder.mid_block") {
        return kl_of_diffusers(part);
    }
    if !part.has("decoder.mid") {
        return Err("holds no network that is known here: expected a checkpoint of SD 1.x or 2.x \
                    (model.diffusion_model.…) or an autoencoder (decoder.mid.… or taesd_decoder.…)"
            .into());
    }
    kl(part)
}

/// Names and config of TAESD's own files, whose names were prefixed with `encoder.` and `decoder.`.
///
/// # Errors
/// What is missing.
pub(super) fn taesd(part: &Part<'_>) -> Result<Names, String> {
    tiny(part, ["encoder", "decoder"], 1)
}

/// An `AutoencoderTiny`; `shift` is by how much the decoder's layers count further than diffusers', as TAESD's begins
/// with a clamp that has no weights.
fn tiny(part: &Part<'_>, [encoder, decoder]: [&str; 2], shift: usize) -> Result<Names, String> {
    let mut names = Names::new();
    for (ix, _) in layers(part, encoder) {
        names.add(format!("{encoder}.{ix}"), format!("encoder.layers.{ix}"));
    }
    for (ix, _) in layers(part, decoder) {
        let target = ix
            .checked_sub(shift)
            .ok_or_else(|| format!("has a tensor in `{decoder}.0`, which is a clamp"))?;
        names.add(format!("{decoder}.{ix}"), format!("decoder.layers.{target}"));
    }
    let first = |half: &str, axis: usize| {
        let ix = layers(part, half).first().map(|(ix, _)| *ix);
        let ix = ix.ok_or_else(|| format!("has no layers in `{half}`"))?;
        part.length(&format!("{half}.{ix}.weight"), axis)
    };
    let (encoder_blocks, decoder_blocks) = (blocks(part, encoder), blocks(part, decoder));
    let widths = |width: usize, blocks: &[usize]| numbers(blocks.iter().map(|_| width));
    names.config = json!({
        "_class_name": "AutoencoderTiny",
        "latent_channels": first(decoder, 1)?,
        "encoder_block_out_channels": widths(first(encoder, 0)?, &encoder_blocks),
        "decoder_block_out_channels": widths(first(decoder, 0)?, &decoder_blocks),
        "num_encoder_blocks": numbers(encoder_blocks),
        "num_decoder_blocks": numbers(decoder_blocks),
        "scaling_factor": 1.0,
    });
    Ok(names)
}

/// Numbers of the layers of one half that have weights, in order, and whether each is a block of three convolutions.
fn layers(part: &Part<'_>, half: &str) -> Vec<(usize, bool)> {
    let numbers = part.names().filter_map(|name| {
        let (ix, rest) = name.strip_prefix(half)?.strip_prefix('.')?.split_once('.')?;
        Some((ix.parse().ok()?, rest.starts_with("conv.")))
    });
    let mut layers: Vec<(usize, bool)> = numbers.collect();
    layers.sort_unstable();
    layers.dedup_by_key(|(ix, _)| *ix);
    layers
}

/// Blocks of each level: every convolution but the last begins one.
fn blocks(part: &Part<'_>, half: &str) -> Vec<usize> {
    let layers = layers(part, half);
    let mut counts = Vec::new();
    for (_, is_block) in &layers {
        match counts.last_mut() {
            Some(count) if *is_block => *count += 1,
            _ => counts.push(0),
        }
    }
    counts.pop();
    counts
}

/// An `AutoencoderKL`.
fn kl(part: &Part<'_>) -> Result<Names, String> {
    let mut names = Names::new();
    let levels = (0..).take_while(|ix| part.has(&format!("encoder.down.{ix}"))).count();
    for (level, other) in (0..levels).zip((0..levels).rev()) {
        let halves = [
            (
                format!("encoder.down.{level}"),
                format!("encoder.down_blocks.{level}"),
                ["downsample", "downsamplers"],
            ),
            // Levels of the decoder are counted from the finest in the file, from the coarsest by diffusers.
            (format!("decoder.up.{level}"), format!("decoder.up_blocks.{other}"), ["upsample", "upsamplers"]),
        ];
        for (base, target, [sampler, samplers]) in halves {
            for ix in (0..).take_while(|ix| part.has(&format!("{base}.block.{ix}"))) {
                names.add_inside(&format!("{base}.block.{ix}"), &format!("{target}.resnets.{ix}"), &RESNET);
            }
            names.add(format!("{base}.{sampler}.conv"), format!("{target}.{samplers}.0.conv"));
        }
    }
    for half in ["encoder", "decoder"] {
        for (block, ix) in [("block_1", 0), ("block_2", 1)] {
            names.add_inside(
                &format!("{half}.mid.{block}"),
                &format!("{half}.mid_block.resnets.{ix}"),
                &RESNET,
            );
        }
        let attention = (format!("{half}.mid.attn_1"), format!("{half}.mid_block.attentions.0"));
        names.add_inside(&attention.0, &attention.1, &ATTENTION);
        for (module, name) in
            [("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")]
        {
            names.add(format!("{half}.{module}"), format!("{half}.{name}"));
        }
    }
    for module in ["quant_conv", "post_quant_conv"] {
        names.add(module, module);
    }
    names.config = kl_config(part, "encoder.down", "block", "encoder.mid.attn_1")?;
    Ok(names)
}

/// An `AutoencoderKL` in diffusers' own names, without a config.
fn kl_of_diffusers(part: &Part<'_>) -> Result<Names, String> {
    let mut names = Names::new();
    for module in ["encoder", "decoder", "quant_conv", "post_quant_conv"] {
        names.add(module, module);
    }
    names.config = kl_config(part, "encoder.down_blocks", "resnets", "encoder.mid_block.attentions.0")?;
    Ok(names)
}

/// The config of an `AutoencoderKL` whose encoder has its levels in `down`, their resnets in `resnets`, and an attention
/// called `attention` if any.
fn kl_config(part: &Part<'_>, down: &str, resnets: &str, attention: &str) -> Result<Value, String> {
    let levels = (0..).take_while(|ix| part.has(&format!("{down}.{ix}"))).count();
    let channels = |level| part.length(&format!("{down}.{level}.{resnets}.0.conv2.weight"), 0);
    let channels: Vec<usize> = (0..levels).map(channels).collect::<Result<_, String>>()?;
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "in_channels": part.length("encoder.conv_in.weight", 1)?,
        "out_channels": part.length("decoder.conv_out.weight", 0)?,
        "latent_channels": part.length("decoder.conv_in.weight", 1)?,
        "block_out_channels": numbers(channels),
        "layers_per_block": (0..).take_while(|ix| part.has(&format!("{down}.0.{resnets}.{ix}"))).count(),
        "down_block_types": Value::from_iter((0..levels).map(|_| "DownEncoderBlock2D")),
        "up_block_types": Value::from_iter((0..levels).map(|_| "UpDecoderBlock2D")),
        "use_quant_conv": part.has("quant_conv"),
        "use_post_quant_conv": part.has("post_quant_conv"),
        "mid_block_add_attention": part.has(attention),
        "scaling_factor": SCALING_FACTOR,
    }))
}
