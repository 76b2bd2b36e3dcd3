//! Published models by their configs, and what does not go together.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::{Value, json};

use super::*;
use crate::frame::Size;
use crate::params::Params;

/// What somebody sets.
type Change = fn(&mut Params);

/// The published UNet configs, reduced to what tells them apart.
fn unet(changes: Value) -> UnetConfig {
    let mut config = json!({
        "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    });
    changes.as_object().unwrap().iter().for_each(|(field, value)| config[field] = value.clone());
    UnetConfig::parse("unet/config.json", config.to_string().as_bytes()).unwrap()
}

/// Three levels of one layer each without a mid block.
fn cut_down(first: &str, more: Value) -> UnetConfig {
    let cross = "CrossAttnDownBlock2D";
    let up = |down: &str| down.replace("Down", "Up");
    let mut changes = json!({
        "block_out_channels": [320, 640, 1280], "layers_per_block": 1, "mid_block_type": null,
        "down_block_types": [first, cross, cross], "up_block_types": [up(cross), up(cross), up(first)],
    });
    more.as_object().unwrap().iter().for_each(|(field, value)| changes[field] = value.clone());
    unet(changes)
}

fn scheduler(class: &str, spacing: &str) -> SchedulerConfig {
    let config = json!({"_class_name": class, "timestep_spacing": spacing});
    SchedulerConfig::parse("scheduler_config.json", config.to_string().as_bytes()).unwrap()
}

fn lora(path: &str, weight: f32) -> LoraFile {
    LoraFile { path: path.into(), weight }
}

#[test]
fn published_models_are_recognised() {
    let sd15 = || unet(json!({}));
    let sd2 = || unet(json!({"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20]}));
    let sd2_heads = json!({"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20]});
    let cases = [
        (unet(json!({"time_cond_proj_dim": 256})), "LCMScheduler", "leading", Family::EmbeddedLcm),
        (sd15(), "LCMScheduler", "leading", Family::Lcm),
        (sd15(), "PNDMScheduler", "leading", Family::Undistilled),
        (sd15(), "EulerDiscreteScheduler", "leading", Family::Undistilled),
        (sd2(), "EulerDiscreteScheduler", "trailing", Family::Turbo),
        (sd2(), "DDIMScheduler", "leading", Family::Undistilled),
        (cut_down("CrossAttnDownBlock2D", sd2_heads), "DEISMultistepScheduler", "leading", Family::Sdxs),
        (cut_down("DownBlock2D", json!({})), "DEISMultistepScheduler", "leading", Family::Sdxs),
        // tiny-sd, bk-sdm-small, bk-sdm-base.
        (
            cut_down("CrossAttnDownBlock2D", json!({})),
            "DPMSolverMultistepScheduler",
            "leading",
            Family::Undistilled,
        ),
        (
            unet(json!({"layers_per_block": 1, "mid_block_type": null})),
            "PNDMScheduler",
            "leading",
            Family::Undistilled,
        ),
        (unet(json!({"layers_per_block": 1})), "PNDMScheduler", "leading", Family::Undistilled),
    ];
    for (unet, class, spacing, expected) in cases {
        assert_eq!(
            Family::of(&unet, &scheduler(class, spacing), &[]),
            expected,
            "{class} {spacing} {unet:?}"
        );
    }
}

#[test]
fn loras_that_distil_are_known_by_their_paths() {
    let (unet, plain) = (unet(json!({})), scheduler("PNDMScheduler", "leading"));
    let of = |loras: &[LoraFile]| Family::of(&unet, &plain, loras);
    let lcm = lora("/m/models--latent-consistency--lcm-lora-sdv1-5/pytorch_lora_weights.safetensors", 1.0);
    assert_eq!(of(&[lora("style.safetensors", 1.0)]), Family::Undistilled);
    assert_eq!(of(&[lora("style.safetensors", 0.6), lcm.clone()]), Family::Lcm);
    assert_eq!(of(&[LoraFile { weight: 0.0, ..lcm.clone() }]), Family::Undistilled, "it is not used");
    assert_eq!(of(&[lora("Hyper-SD15-4steps-lora.safetensors", 1.0)]), Family::Tcd);
    assert_eq!(of(&[lora("tcd_lora.safetensors", 1.0)]), Family::Tcd);
    let turbo = scheduler("EulerDiscreteScheduler", "trailing");
    assert_eq!(Family::of(&unet, &turbo, std::slice::from_ref(&lcm)), Family::Turbo);
    let said = misplaced_loras(&unet, &turbo, &[lora("style.safetensors", 1.0), lcm.clone()]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("lcm-lora-sdv1-5") && said[0].contains("turbo model"), "{said:?}");
    assert!(misplaced_loras(&unet, &plain, &[lcm]).is_empty());
}

#[test]
fn defaults_are_objected_to_by_nobody() {
    let all =
        [Family::EmbeddedLcm, Family::Lcm, Family::Turbo, Family::Tcd, Family::Sdxs, Family::Undistilled];
    for family in all {
        let settings = Params::default().settings(Size::new(512, 512), family.defaults());
        assert_eq!(family.objections(&settings), Vec::<String>::new(), "{family:?}");
    }
}

#[test]
fn wrong_combinations_are_explained() {
    let settings = |family: Family, change: Change| {
        let mut params = Params::default();
        change(&mut params);
        params.settings(Size::new(512, 512), family.defaults())
    };
    let cases: [(Family, Change, &str); 7] = [
        (Family::Undistilled, |p| p.steps = Some(4), "LCM-LoRA"),
        (Family::Undistilled, |p| p.sampler = Some(Sampler::Lcm), "blurred"),
        (Family::Lcm, |p| p.steps = Some(20), "steps 20 takes longer"),
        (Family::Lcm, |p| p.guidance = Some(7.5), "take 1 to 2"),
        (Family::EmbeddedLcm, |p| p.sampler = Some(Sampler::Euler), "take lcm"),
        (Family::Turbo, |p| p.guidance = Some(2.0), "second pass"),
        (Family::Sdxs, |p| p.guidance = Some(7.5), "made without"),
    ];
    for (family, change, wanted) in cases {
        let found = family.objections(&settings(family, change));
        assert!(found.len() == 1 && found[0].contains(wanted), "{family:?}: {found:?} lacks {wanted}");
    }
    let fog = |family: Family| family.unread_negative(&settings(family, |p| p.negative = "fog".into()));
    assert!(fog(Family::EmbeddedLcm).unwrap().contains("as an input"));
    assert!(fog(Family::Tcd).unwrap().contains("not above 1"));
    assert_eq!(fog(Family::Undistilled), None);
    assert_eq!(Family::Lcm.unread_negative(&settings(Family::Lcm, |_| {})), None);
}
