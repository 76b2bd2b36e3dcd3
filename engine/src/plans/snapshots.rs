//! Dispatches and bytes of whole models, so that a plan which grows is seen without a device.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use dreamglass_kernels::plan::Storage;

use super::*;

/// SD-Turbo's `unet/config.json` (Stable Diffusion 2.1's shapes), defaults left out.
const SD_TURBO_UNET: &[u8] = br#"{"_class_name": "UNet2DConditionModel", "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024, "down_block_types":
    ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "norm_eps": 1e-05,
    "norm_num_groups": 32, "out_channels": 4, "sample_size": 64, "up_block_types":
    ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "use_linear_projection": true}"#;
/// Its text encoder's.
const SD_TURBO_TEXT: &[u8] = br#"{"model_type": "clip_text_model", "hidden_size": 1024,
    "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "vocab_size": 49408,
    "max_position_embeddings": 77, "hidden_act": "gelu"}"#;

const DEMO: [&[u8]; 3] = [
    include_bytes!("../../../models/demo/unet/config.json"),
    include_bytes!("../../../models/demo/vae/config.json"),
    include_bytes!("../../../models/demo/text_encoder/config.json"),
];

/// Both models at 512x512 in f16 with one step and no guidance. A change that makes a figure
/// smaller is welcome; one that makes it larger needs a reason in its commit.
const EXPECTED: &str = "\
demo tile text: 12 dispatches, 843264 B weights, 118272 B slots
demo tile prompt: 4 dispatches, 262144 B weights, 0 B slots
demo tile time: 11 dispatches, 1530880 B weights, 2304 B slots
demo tile begin: 26 dispatches, 820736 B weights, 25165824 B slots
demo tile denoise: 62 dispatches, 9076992 B weights, 4898816 B slots
demo tile end: 31 dispatches, 1099280 B weights, 21233664 B slots
demo tile frame: 119 dispatches, 26082560 B slots shared
demo tile peak: 45924804 B
sd-turbo tile text: 117 dispatches, 681674752 B weights, 1103872 B slots
sd-turbo tile prompt: 16 dispatches, 51118080 B weights, 0 B slots
sd-turbo tile time: 25 dispatches, 59892480 B weights, 7680 B slots
sd-turbo tile begin: 43 dispatches, 2450192 B weights, 61603840 B slots
sd-turbo tile denoise: 214 dispatches, 1677853456 B weights, 24273920 B slots
sd-turbo tile end: 42 dispatches, 2622224 B weights, 59506688 B slots
sd-turbo tile frame: 299 dispatches, 62118400 B slots shared
sd-turbo tile peak: 2547407908 B
demo lane text: 12 dispatches, 843264 B weights, 118272 B slots
demo lane prompt: 4 dispatches, 262144 B weights, 0 B slots
demo lane time: 11 dispatches, 1456768 B weights, 2304 B slots
demo lane begin: 26 dispatches, 410368 B weights, 25165824 B slots
demo lane denoise: 83 dispatches, 8473216 B weights, 6291456 B slots
demo lane end: 31 dispatches, 550800 B weights, 21233664 B slots
demo lane frame: 140 dispatches, 26214400 B slots shared
demo lane peak: 44419908 B
sd-turbo lane text: 117 dispatches, 681674752 B weights, 1103872 B slots
sd-turbo lane prompt: 16 dispatches, 51118080 B weights, 0 B slots
sd-turbo lane time: 25 dispatches, 59892480 B weights, 7680 B slots
sd-turbo lane begin: 43 dispatches, 2450192 B weights, 61603840 B slots
sd-turbo lane denoise: 275 dispatches, 1677853456 B weights, 27361280 B slots
sd-turbo lane end: 42 dispatches, 2622224 B weights, 59506688 B slots
sd-turbo lane frame: 360 dispatches, 61603840 B slots shared
sd-turbo lane peak: 2546893348 B
";

/// The plans of a picture at 512x512 by name, in the order they run.
fn plans(target: Target, [unet, vae, text]: [&[u8]; 3]) -> Vec<(&'static str, Plan)> {
    let unet = UnetConfig::parse("unet/config.json", unet).unwrap();
    let vae = AutoencoderConfig::parse("vae/config.json", vae).unwrap();
    let config = TextConfig::parse("text_encoder/config.json", text).unwrap();
    let dtype = DType::F16;
    let size = Size::new(512, 512);
    let latents = Shape::new(1, 512 / vae.factor(), 512 / vae.factor(), vae.latent_channels);
    let embeddings = Shape::tokens(1, 77, unet.cross_attention_dim[0]);
    let pixels =
        Source::Pixels { size, region: [0.0, 0.0, 512.0, 512.0], orientation: Orientation::default() };
    vec![
        ("text", self::text(target, &config, "", [1, 77], dtype).unwrap()),
        ("prompt", prompt(target, &unet, embeddings, "", dtype).unwrap()),
        ("time", time(target, &unet, 1, "", dtype).unwrap()),
        ("begin", begin(target, &vae, size, pixels, dtype).unwrap()),
        ("denoise", denoise(target, &unet, latents, 77, false, dtype).unwrap()),
        ("end", end(target, &vae, latents, vae.scaling_factor as f32, dtype).unwrap()),
    ]
}

/// What a frame takes: dispatches from picture to picture, and bytes of the slots that its plans share.
fn frame(plans: &[(&'static str, Plan)]) -> (usize, u64) {
    let mut slots: Vec<u64> = Vec::new();
    let mut dispatches = 0;
    for (_, plan) in plans.iter().filter(|(name, _)| ["begin", "denoise", "end"].contains(name)) {
        dispatches += plan.dispatches.len();
        let mut sizes = plan.memory.slot_bytes.clone();
        sizes.sort_by_key(|&bytes| Reverse(bytes));
        slots.resize(slots.len().max(sizes.len()), 0);
        slots.iter_mut().zip(sizes).for_each(|(slot, bytes)| *slot = (*slot).max(bytes));
    }
    (dispatches, slots.iter().sum())
}

/// Bytes on the device when all plans are ready: weights, slots, and each named tensor once.
fn peak_bytes(plans: &[(&'static str, Plan)]) -> u64 {
    let mut named = BTreeMap::new();
    let (_, mut own) = frame(plans);
    for (_, plan) in plans {
        own += plan.weight_bytes();
        for value in &plan.values {
            if let Storage::Input(name) | Storage::Output(name) = &value.storage {
                named.insert(name.clone(), value.bytes());
            }
        }
    }
    own + named.values().sum::<u64>()
}

fn describe(model: &str, target: Target, configs: [&[u8]; 3], out: &mut String) {
    let plans = plans(target, configs);
    let tier = target.tier.name();
    for (name, plan) in &plans {
        let slots: u64 = plan.memory.slot_bytes.iter().sum();
        let (dispatches, weights) = (plan.dispatches.len(), plan.weight_bytes());
        writeln!(out, "{model} {tier} {name}: {dispatches} dispatches, {weights} B weights, {slots} B slots")
            .unwrap();
    }
    let (dispatches, slots) = frame(&plans);
    writeln!(out, "{model} {tier} frame: {dispatches} dispatches, {slots} B slots shared").unwrap();
    writeln!(out, "{model} {tier} peak: {} B", peak_bytes(&plans)).unwrap();
}

#[test]
fn models_take_no_more_dispatches_and_bytes_than_they_did() {
    let tile = Target { max_binding_bytes: 1 << 30, ..Target::tile() };
    let lane = Target { max_binding_bytes: 1 << 30, ..Target::lane(8) };
    let mut found = String::new();
    for target in [tile, lane] {
        describe("demo", target, DEMO, &mut found);
        describe("sd-turbo", target, [SD_TURBO_UNET, b"{}", SD_TURBO_TEXT], &mut found);
    }
    assert!(found == EXPECTED, "expected\n{EXPECTED}\ngot\n{found}");
}
