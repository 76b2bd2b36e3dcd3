//! Arithmetic, weights and dispatches of published models at 512x512, against a count that PyTorch made of the same networks
//! (`tests/goldens/work.py`).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dreamglass_kernels::Tier;
use serde_json::Value;

use super::*;

const COUNTED: &[u8] = include_bytes!("../../../tests/goldens/work.json");
/// Norms, activations and sums, which the count leaves out, and padding come to less than a hundredth.
const TOLERANCE: f64 = 0.01;

/// Plans of one network, and what was counted for it.
fn expect_work(tier: Tier, what: &str, plans: &[Plan], counted: &Value) {
    let ratio = |ours: u64, field: &str, factor: u64| {
        let expected = factor * counted[field].as_u64().unwrap();
        (ours, expected, ours as f64 / expected as f64)
    };
    let flops = ratio(plans.iter().map(Plan::flops).sum(), "flops", 1);
    let dispatches = ratio(plans.iter().map(|plan| plan.dispatches.len() as u64).sum(), "dispatches", 1);
    let bytes = ratio(plans.iter().map(Plan::weight_bytes).sum(), "stored", 2);
    let mut figures = vec![("operations", flops), ("bytes of weights", bytes)];
    // On CPU adapters norms and gates are passes of their own.
    if tier == Tier::Tile {
        figures.push(("dispatches", dispatches));
    }
    for (name, (ours, expected, ratio)) in figures {
        assert!((ratio - 1.0).abs() <= TOLERANCE, "{what}: {ours} {name}, counted {expected}: {ratio:.4}");
    }
}

/// Scales and what stays as it is come to a hundredth of a UNet's bytes; what reads timesteps in f32 has f32 weights.
#[test]
fn bytes_halve_what_unets_of_published_models_weigh() {
    let counted: Value = serde_json::from_slice(COUNTED).unwrap();
    for (name, family) in counted.as_object().unwrap() {
        let config = serde_json::to_vec(&family["unet"]["config"]).unwrap();
        let config = UnetConfig::parse("unet", &config).unwrap();
        let plans = unet_plans(Target { max_binding_bytes: 1 << 30, ..Target::tile() }, &config);
        let halves: u64 = plans.iter().map(Plan::weight_bytes).sum();
        let bytes: u64 = plans.into_iter().map(|plan| plan.with_int8_weights().weight_bytes()).sum();
        let ratio = bytes as f64 / halves as f64;
        eprintln!("{name}: {halves} bytes of weights in f16, {bytes} in int8, {ratio:.4} of that");
        assert!((0.49..0.51).contains(&ratio), "{name}: {ratio:.4}");
    }
}

fn unet_plans(target: Target, config: &UnetConfig) -> Vec<Plan> {
    let (latents, text) = (Shape::new(1, 64, 64, 4), Shape::tokens(1, 77, config.cross_attention_dim[0]));
    vec![
        prompt(target, config, text, "", DType::F16).unwrap(),
        time(target, config, 1, "", DType::F16).unwrap(),
        denoise(target, config, latents, 77, false, DType::F16).unwrap(),
    ]
}

#[test]
fn work_is_what_others_count() {
    let counted: Value = serde_json::from_slice(COUNTED).unwrap();
    let families = counted.as_object().unwrap();
    assert!(families.len() >= 7, "{}", families.len());
    let config = |network: &Value| serde_json::to_vec(&network["config"]).unwrap();
    for target in [Target::tile(), Target::lane(8)] {
        let target = Target { max_binding_bytes: 1 << 30, ..target };
        for (name, family) in families {
            let what = |network: &str| format!("{name} {} {network}", target.tier.name());
            let unet = UnetConfig::parse("unet", &config(&family["unet"])).unwrap();
            expect_work(target.tier, &what("unet"), &unet_plans(target, &unet), &family["unet"]);
            if let Some(network) = family.get("text_encoder") {
                let text = TextConfig::parse("text", &config(network)).unwrap();
                let plan = self::text(target, &text, "", [1, 77], DType::F16).unwrap();
                expect_work(target.tier, &what("text"), &[plan], network);
            }
            for network in ["vae", "vae_kl"].iter().filter_map(|part| family.get(part)) {
                // Strips trade dispatches for memory.
                let mut vae = AutoencoderConfig::parse("vae", &config(network)).unwrap();
                vae.strip_bytes = u64::MAX;
                let (picture, latents) = (Shape::new(1, 512, 512, 3), Shape::new(1, 64, 64, 4));
                let encoder = encode(target, &vae, picture, DType::F16).unwrap();
                let decoder = end(target, &vae, latents, 1.0, DType::F16).unwrap();
                expect_work(target.tier, &what("encoder"), &[encoder], &network["encoder"]);
                expect_work(target.tier, &what("decoder"), &[decoder], &network["decoder"]);
            }
        }
    }
}
