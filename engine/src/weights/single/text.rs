//! Text encoders inside whole models: CLIP-L as transformers names it (SD 1.x), and OpenCLIP-H (SD 2.x).

use serde_json::{Value, json};

use super::part::{Names, Part};

/// Channels of a head in both.
const HEAD: usize = 64;
/// Width of OpenCLIP-H.
const OPEN_CLIP_WIDTH: usize = 1024;
/// Modules of a layer of OpenCLIP. Its fused projection is split where it is renamed.
const LAYER: [(&str, &str); 7] = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("attn.in_proj_weight", "self_attn.in_proj_weight"),
    ("attn.in_proj_bias", "self_attn.in_proj_bias"),
];

/// Names and config of an encoder that transformers has named.
///
/// # Errors
/// What is missing.
pub(super) fn clip(part: &Part<'_>) -> Result<Names, String> {
    let mut names = Names::new();
    // Transformers since 5 leaves the first out.
    let prefix = if part.has("text_model") { "text_model." } else { "" };
    for module in ["embeddings", "encoder", "final_layer_norm"].map(|module| format!("{prefix}{module}")) {
        names.add(module.clone(), module);
    }
    let layer = |ix: usize| format!("{prefix}encoder.layers.{ix}");
    let layers = (0..).take_while(|&ix| part.has(&layer(ix))).count();
    names.config = config(
        layers,
        [
            part.length(&format!("{prefix}embeddings.token_embedding.weight"), 0)?,
            part.length(&format!("{prefix}embeddings.token_embedding.weight"), 1)?,
            part.length(&format!("{prefix}embeddings.position_embedding.weight"), 0)?,
            part.length(&format!("{}.mlp.fc1.weight", layer(0)), 0)?,
        ],
    );
    Ok(names)
}

/// Names and config of OpenCLIP. SD 2.x reads it after the last layer but one, so that is where it ends.
///
/// # Errors
/// What is missing.
pub(super) fn open_clip(part: &Part<'_>) -> Result<Names, String> {
    let mut names = Names::new();
    let block = |ix: usize| format!("transformer.resblocks.{ix}");
    let layers = (0..).take_while(|&ix| part.has(&block(ix))).count().saturating_sub(1);
    for ix in 0..layers {
        names.add_inside(&block(ix), &format!("text_model.encoder.layers.{ix}"), &LAYER);
    }
    names.add("token_embedding", "text_model.embeddings.token_embedding");
    names.add("positional_embedding", "text_model.embeddings.position_embedding.weight");
    names.add("ln_final", "text_model.final_layer_norm");
    // Not read, and known: the last layer, and what compares texts with pictures.
    for module in [block(layers), "text_projection".into(), "attn_mask".into()] {
        names.skip(module);
    }
    names.config = config(
        layers,
        [
            part.length("token_embedding.weight", 0)?,
            part.length("token_embedding.weight", 1)?,
            part.length("positional_embedding", 0)?,
            part.length(&format!("{}.mlp.c_fc.weight", block(0)), 0)?,
        ],
    );
    Ok(names)
}

/// The `config.json` of `layers` layers; lengths are those of vocabulary, channels, positions and feed-forward.
fn config(layers: usize, [vocabulary, channels, positions, inner]: [usize; 4]) -> Value {
    json!({
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": channels,
        "max_position_embeddings": positions,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": (channels / HEAD).max(1),
        "hidden_act": if channels == OPEN_CLIP_WIDTH { "gelu" } else { "quick_gelu" },
    })
}

/// The `tokenizer_config.json` of a tokenizer that fills up with `pad`.
pub(super) fn tokenizer_config(pad: &str) -> Vec<u8> {
    json!({"pad_token": pad, "model_max_length": 77}).to_string().into_bytes()
}
