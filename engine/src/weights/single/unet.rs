//! The UNet of the original code: `input_blocks`, `middle_block`, `output_blocks`, counted through all levels.

use serde_json::{Value, json};

use super::part::{Names, Part};
use super::{Metadata, numbers};

/// Modules outside of blocks.
const TOP: [(&str, &str); 6] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];
/// Modules of a resnet block.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];
/// Text embeddings of this width come from OpenCLIP: the model is an SD 2.x.
const SD2_TEXT: usize = 1024;
/// Channels of a head of SD 2.x; SD 1.x has eight heads everywhere.
const SD2_HEAD: usize = 64;
const SD1_HEADS: usize = 8;

/// One level of resolution.
#[derive(Default)]
struct Level {
    channels: usize,
    layers: usize,
    transformers: usize,
    text: Option<usize>,
}

/// Diffusers' names and config.
///
/// # Errors
/// What is missing, or of another architecture.
pub(super) fn describe(part: &Part<'_>) -> Result<Names, String> {
    if part.has("label_emb") {
        return Err(
            "has a `label_emb`: is a checkpoint of SDXL or an upscaler, expected SD 1.x or 2.x".into()
        );
    }
    let mut names = Names::new();
    TOP.iter().for_each(|(module, name)| names.add(*module, *name));
    let down = down_blocks(part, &mut names)?;
    let up = up_blocks(part, &mut names)?;
    for (ix, module) in ["resnets.0", "attentions.0", "resnets.1"].iter().enumerate() {
        let (base, name) = (format!("middle_block.{ix}"), format!("mid_block.{module}"));
        if ix == 1 { names.add(base, name) } else { names.add_inside(&base, &name, &RESNET) }
    }
    names.config = config(part, &down, &up)?;
    Ok(names)
}

fn config(part: &Part<'_>, down: &[Level], up: &[Level]) -> Result<Value, String> {
    let middle =
        part.has("middle_block").then(|| read_level(part, "middle_block.0", "middle_block.1")).transpose()?;
    let text = down.iter().chain(up).chain(&middle).find_map(|level| level.text);
    let text = text.ok_or("has no cross-attention: expected a model that follows a prompt")?;
    let heads = |level: &Level| if text == SD2_TEXT { level.channels / SD2_HEAD } else { SD1_HEADS };
    // Levels without transformers have one that is not used, so that lists have an entry for each.
    let transformers = |ix: usize| {
        let of_level = [down.get(ix), up.iter().rev().nth(ix)].into_iter().flatten().map(|l| l.transformers);
        of_level.max().unwrap_or(0).max(1)
    };
    let kind =
        |level: &Level, with: &str, without: &str| json!(if level.text.is_some() { with } else { without });
    let guidance = "time_embed.cond_proj.weight";
    Ok(json!({
        "_class_name": "UNet2DConditionModel",
        "in_channels": part.length("input_blocks.0.0.weight", 1)?,
        "out_channels": part.length("out.2.weight", 0)?,
        "block_out_channels": numbers(down.iter().map(|level| level.channels)),
        "layers_per_block": numbers(down.iter().map(|level| level.layers)),
        "transformer_layers_per_block": numbers((0..down.len()).map(transformers)),
        "attention_head_dim": numbers(down.iter().map(heads)),
        "down_block_types": Value::from_iter(
            down.iter().map(|level| kind(level, "CrossAttnDownBlock2D", "DownBlock2D"))),
        "up_block_types": Value::from_iter(up.iter().map(|level| kind(level, "CrossAttnUpBlock2D", "UpBlock2D"))),
        "mid_block_type": middle.map(|_| "UNetMidBlock2DCrossAttn"),
        "cross_attention_dim": text,
        "time_cond_proj_dim": part.has(guidance).then(|| part.length(guidance, 1)).transpose()?,
        "sample_size": 64,
    }))
}

/// A level as its first resnet block and transformers show it.
fn read_level(part: &Part<'_>, resnet: &str, transformer: &str) -> Result<Level, String> {
    let channels = part.length(&format!("{resnet}.out_layers.3.weight"), 0)?;
    if !part.has(&format!("{transformer}.transformer_blocks")) {
        return Ok(Level { channels, ..Level::default() });
    }
    let block = |ix: usize| format!("{transformer}.transformer_blocks.{ix}");
    let transformers = (0..).take_while(|&ix| part.has(&block(ix))).count();
    let text = part.length(&format!("{}.attn2.to_k.weight", block(0)), 1)?;
    Ok(Level { channels, layers: 0, transformers, text: Some(text) })
}

/// Adds a resnet block and the transformer behind it, the `layer`th of its level.
fn add_layer(
    part: &Part<'_>,
    names: &mut Names,
    block: &str,
    target: &str,
    level: &mut Level,
) -> Result<(), String> {
    let [resnet, transformer] = [format!("{block}.0"), format!("{block}.1")];
    let read = read_level(part, &resnet, &transformer)?;
    if level.layers == 0 {
        *level = read;
    }
    names.add_inside(&resnet, &format!("{target}.resnets.{}", level.layers), &RESNET);
    if level.text.is_some() {
        names.add(transformer, format!("{target}.attentions.{}", level.layers));
    }
    level.layers += 1;
    Ok(())
}

fn down_blocks(part: &Part<'_>, names: &mut Names) -> Result<Vec<Level>, String> {
    let mut levels = vec![Level::default()];
    for block in (1..).map(|ix| format!("input_blocks.{ix}")).take_while(|block| part.has(block)) {
        let target = format!("down_blocks.{}", levels.len() - 1);
        if part.has(&format!("{block}.0.op")) {
            names.add(format!("{block}.0.op"), format!("{target}.downsamplers.0.conv"));
            levels.push(Level::default());
        } else if let Some(level) = levels.last_mut() {
            add_layer(part, names, &block, &target, level)?;
        }
    }
    Ok(levels)
}

/// The coarsest level first, as diffusers counts them.
fn up_blocks(part: &Part<'_>, names: &mut Names) -> Result<Vec<Level>, String> {
    let mut levels = vec![Level::default()];
    for block in (0..).map(|ix| format!("output_blocks.{ix}")).take_while(|block| part.has(block)) {
        let target = format!("up_blocks.{}", levels.len() - 1);
        if let Some(level) = levels.last_mut() {
            add_layer(part, names, &block, &target, level)?;
        }
        // Behind the transformer where there is one.
        let upsampler = (1..=2).map(|ix| format!("{block}.{ix}.conv")).find(|module| part.has(module));
        if let Some(module) = upsampler {
            names.add(module, format!("{target}.upsamplers.0.conv"));
            levels.push(Level::default());
        }
    }
    Ok(levels)
}

/// `prediction_type`: what the file says of itself (modelspec 1.0.1), else what shows in the last transformer. SD 2.x
/// models of velocity have biases there that spread by more than 0.09, those of noise by less (ComfyUI,
/// `supported_models.py`).
///
/// # Errors
/// That the tensor cannot be read.
pub(super) fn prediction(part: &Part<'_>, metadata: &Metadata) -> Result<&'static str, String> {
    const SPREAD: f32 = 0.09;
    let says = |field: &str, word: &str| metadata.get(field).is_some_and(|value| value.starts_with(word));
    if says("modelspec.prediction_type", "v") || says("modelspec.architecture", "stable-diffusion-v2-768-v") {
        return Ok("v_prediction");
    }
    if says("modelspec.prediction_type", "eps") {
        return Ok("epsilon");
    }
    let last = part.names().filter(|name| {
        name.starts_with("output_blocks.") && name.ends_with(".transformer_blocks.0.norm1.bias")
    });
    // By number: `output_blocks.11` sorts before `output_blocks.2`.
    let number = |name: &str| name.split('.').nth(1).and_then(|ix| ix.parse::<u32>().ok());
    let Some(last) = last.max_by_key(|name| number(name)) else { return Ok("epsilon") };
    let base = last.trim_end_matches("norm1.bias");
    if part.length(&format!("{base}attn2.to_k.weight"), 1)? != SD2_TEXT {
        return Ok("epsilon");
    }
    let values = part.values(last)?;
    let n = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    Ok(if variance.sqrt() > SPREAD { "v_prediction" } else { "epsilon" })
}
