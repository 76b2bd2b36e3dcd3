//! Plans of published architectures, recorded without a device.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use dreamglass_kernels::plan::Storage;

use super::*;

/// Stable Diffusion 1.5's `unet/config.json`, defaults left out.
const SD15_UNET: &[u8] = br#"{"_class_name": "UNet2DConditionModel", "act_fn": "silu",
    "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
    "cross_attention_dim": 768, "down_block_types":
    ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
    "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
    "out_channels": 4, "sample_size": 64, "up_block_types":
    ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}"#;

/// Its text encoder's.
const SD15_TEXT: &[u8] = br#"{"model_type": "clip_text_model", "hidden_size": 768,
    "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 49408,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu"}"#;

fn target() -> Target {
    Target { max_binding_bytes: 1 << 30, ..Target::tile() }
}

/// Every checkpoint tensor that the plans read, with its number of elements.
fn weights(plans: &[&Plan]) -> BTreeMap<String, u64> {
    let params = plans.iter().flat_map(|p| &p.weights).flat_map(|w| w.values.params());
    let parts = params.flat_map(|p| {
        let inner: u64 = p.inner.iter().map(|&d| u64::from(d)).product();
        p.parts.iter().map(move |(name, outer)| (name.clone(), u64::from(*outer) * inner))
    });
    parts.collect()
}

fn names(plan: &Plan, want_inputs: bool) -> Vec<(String, Shape, DType)> {
    let name = |storage: &Storage| match storage {
        Storage::Input(name) if want_inputs => Some(name.clone()),
        Storage::Output(name) if !want_inputs => Some(name.clone()),
        _ => None,
    };
    plan.values.iter().filter_map(|v| Some((name(&v.storage)?, v.shape, v.dtype))).collect()
}

fn sd15(guided: bool) -> [Plan; 4] {
    let config = UnetConfig::parse("unet/config.json", SD15_UNET).unwrap();
    let embeddings = Shape::tokens(1, 77, 768);
    let denoise = denoise(target(), &config, Shape::new(1, 64, 64, 4), 77, guided, DType::F16).unwrap();
    let time = time(target(), &config, 1, "", DType::F16).unwrap();
    let positive = prompt(target(), &config, embeddings, "", DType::F16).unwrap();
    let negative = prompt(target(), &config, embeddings, NEGATIVE, DType::F16).unwrap();
    [denoise, time, positive, negative]
}

#[test]
fn every_weight_of_stable_diffusion_is_read() {
    let [denoise, time, prompt, _] = sd15(false);
    let unet = weights(&[&denoise, &time, &prompt]);
    // Tensors and parameters of diffusers' UNet2DConditionModel with this config.
    assert_eq!((unet.len(), unet.values().sum::<u64>()), (686, 859_520_964));

    let config = TextConfig::parse("text_encoder/config.json", SD15_TEXT).unwrap();
    let text = text(target(), &config, "text_model.", [1, 77], DType::F16).unwrap();
    let text = weights(&[&text]);
    // Those of transformers' CLIPTextModel.
    assert_eq!((text.len(), text.values().sum::<u64>()), (196, 123_060_480));
    assert!(text.contains_key("text_model.final_layer_norm.bias"));
}

#[test]
fn every_weight_of_the_tiny_autoencoder_is_read() {
    let config = AutoencoderConfig::parse("vae/config.json", b"{}").unwrap();
    let size = Size::new(512, 512);
    let begin = begin(target(), &config, size, Source::Tensor, DType::F16).unwrap();
    let end = end(target(), &config, Shape::new(1, 64, 64, 4), 1.0, DType::F16).unwrap();
    let vae = weights(&[&begin, &end]);
    // Those of diffusers' AutoencoderTiny.
    assert_eq!((vae.len(), vae.values().sum::<u64>()), (134, 2_445_063));
    let encoded = names(&begin, false);
    assert!(encoded.contains(&(LATENTS.into(), Shape::new(1, 64, 64, 4), DType::F32)), "{encoded:?}");
    let decoded = names(&end, false);
    assert!(decoded.contains(&(PICTURE.into(), Shape::new(1, 512, 512, 3), DType::F32)), "{decoded:?}");
}

/// `vae/config.json` of Stable Diffusion 1.x and 2.x.
const SD_VAE: &[u8] = br#"{"_class_name": "AutoencoderKL", "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512], "down_block_types":
    ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
    "sample_size": 512, "up_block_types":
    ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

#[test]
fn every_weight_of_the_large_autoencoder_is_read() {
    let config = AutoencoderConfig::parse("vae/config.json", SD_VAE).unwrap();
    let size = Size::new(512, 512);
    let begin = begin(target(), &config, size, Source::Tensor, DType::F16).unwrap();
    let end = end(target(), &config, Shape::new(1, 64, 64, 4), 0.18215, DType::F16).unwrap();
    let vae = weights(&[&begin, &end]);
    // Those of diffusers' AutoencoderKL, without four of the eight outputs of its quant_conv.
    assert_eq!((vae.len(), vae.values().sum::<u64>()), (248, 83_653_863 - 4 * 9));
    let encoded = names(&begin, false);
    assert!(encoded.contains(&(LATENTS.into(), Shape::new(1, 64, 64, 4), DType::F32)), "{encoded:?}");
    let decoded = names(&end, false);
    assert!(decoded.contains(&(PICTURE.into(), Shape::new(1, 512, 512, 3), DType::F32)), "{decoded:?}");
}

#[test]
fn the_large_autoencoder_fits_small_bindings_in_f16_and_says_what_does_not() {
    let config = AutoencoderConfig::parse("vae/config.json", SD_VAE).unwrap();
    for target in [Target::tile(), Target::lane(8)] {
        assert_eq!(target.max_binding_bytes, 128 << 20);
        let decode = |side, dtype| end(target, &config, Shape::new(1, side, side, 4), 1.0, dtype);
        assert!(begin(target, &config, Size::new(512, 512), Source::Tensor, DType::F16).is_ok());
        assert!(decode(64, DType::F16).is_ok());
        // 512x512 pixels of 256 channels.
        let error = decode(64, DType::F32).unwrap_err().to_string();
        let words = ["decoder.up_blocks.2.upsamplers.0", "268435456", "limit is 134217728"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn conditioning_outputs_are_the_unets_inputs() {
    for guided in [false, true] {
        let [denoise, time, positive, negative] = sd15(guided);
        let mut outputs = names(&time, false);
        outputs.extend(names(&positive, false));
        if guided {
            outputs.extend(names(&negative, false));
        }
        let own = [SAMPLE, INPUT, STEP, STEP_NOISE];
        let mut inputs = names(&denoise, true);
        inputs.retain(|(name, ..)| !own.contains(&name.as_str()));
        let key = |v: &(String, Shape, DType)| v.0.clone();
        inputs.sort_by_key(key);
        outputs.sort_by_key(key);
        assert_eq!(inputs, outputs);
        assert_eq!(inputs.len(), 22 + 16 * if guided { 2 } else { 1 });
    }
}

#[test]
fn odd_latents_come_back_in_their_size() {
    let config = UnetConfig::parse("unet/config.json", SD15_UNET).unwrap();
    let shape = Shape::new(1, 37, 51, 4);
    let plan = denoise(target(), &config, shape, 77, false, DType::F16).unwrap();
    assert!(names(&plan, false).contains(&(NOISE_PRED.into(), shape, DType::F32)));
}
