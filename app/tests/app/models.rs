//! What models are and take: `models show` and `models fit`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{WHOLE, Weight, failed, load, model, run, save, succeed};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(&[&["models"], arguments, &["--json"]].concat())).unwrap()
}

/// Values in a file of safetensors.
fn values(path: &Path) -> u64 {
    load(path).iter().map(|weight| weight.shape.iter().product::<usize>() as u64).sum()
}

#[test]
fn a_model_is_described() {
    let [embedded, folder] = ["demo", DEMO].map(|model| json(&["show", model]));
    for field in ["family", "defaults", "unet", "text_encoder", "autoencoder", "scheduler"] {
        assert_eq!(embedded[field], folder[field], "{field}");
        assert!(embedded[field].is_object() || embedded[field].is_string(), "{field}: {embedded}");
    }
    for (field, file) in [
        ("unet", "unet/diffusion_pytorch_model.safetensors"),
        ("autoencoder", "vae/diffusion_pytorch_model.safetensors"),
        ("text_encoder", "text_encoder/model.safetensors"),
    ] {
        assert_eq!(folder[field]["parameters"], values(&Path::new(DEMO).join(file)), "{field}");
    }
    assert_eq!(folder["unet"]["dtype"], "f16");
    assert!(folder["defaults"]["sampler"].is_string() && folder["defaults"]["steps"].as_u64() > Some(0));
    assert_eq!(folder["commit"], Value::Null);
    let text = succeed(&["models", "show", "demo"]);
    assert!(
        text.contains("family: ") && text.contains("million") && text.contains("MIT OR Apache-2.0"),
        "{text}"
    );
}

#[test]
fn loras_and_autoencoders_are_described() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lora.safetensors");
    let factor = |end: &str, shape: [usize; 2]| Weight {
        name: format!("unet.mid_block.attentions.0.proj_in.lora_{end}.weight"),
        shape: shape.to_vec(),
        bytes: vec![0; 4 * shape[0] * shape[1]],
    };
    save(&path, &[factor("A", [4, 32]), factor("B", [32, 4])]);
    let lora = json(&["show", path.to_str().unwrap()]);
    assert_eq!(lora["lora"]["rank"], serde_json::json!([4, 4]));
    assert_eq!((&lora["lora"]["changed_weights"], &lora["lora"]["parameters"]), (&1.into(), &256.into()));
    let vae = json(&["show", Path::new(DEMO).join("vae").to_str().unwrap()]);
    assert!(vae["autoencoder"]["latent_channels"] == 8 && vae.get("unet").is_none(), "{vae}");
    fs::write(folder.path().join("x.safetensors"), b"no").unwrap();
    let broken = folder.path().join("x.safetensors");
    failed(&run(&["models", "show", broken.to_str().unwrap()]), 2, &["x.safetensors", "safetensors file"]);
    failed(&run(&["models", "show", folder.path().to_str().unwrap()]), 2, &["expected a model"]);
    failed(&run(&["models", "show", "nowhere"]), 2, &["nowhere", "found nothing"]);
}

#[test]
fn what_a_model_takes_is_what_a_stream_of_it_takes() {
    let folder = TempDir::new().unwrap();
    let figures = folder.path().join("figures.json");
    for (size, steps) in [("128x128", "1"), ("96x64", "2")] {
        let common = ["--size", size, "--steps", steps];
        let fit = json(&[&["fit", "demo"], &common[..]].concat());
        let bench =
            ["bench", "--frames", "2", "--warmup", "0", "--no-ceilings", "--json", figures.to_str().unwrap()];
        succeed(&[&bench[..], &common[..]].concat());
        let measured: Value = serde_json::from_slice(&fs::read(&figures).unwrap()).unwrap();
        let ratio = |fit: &Value, measured: &Value| fit.as_f64().unwrap() / measured.as_f64().unwrap();
        let memory = ratio(&fit["total_bytes"], &measured["memory"]["device_bytes"]);
        let gflop = ratio(&fit["gflop"], &measured["work"]["gflop"]);
        let time = ratio(&fit["forecast"]["frame_ms"], &measured["frame_gpu_ms"]["p50"]);
        eprintln!("{size}: memory {memory:.3}, arithmetic {gflop:.4}, time {time:.2} of what is measured");
        assert!((0.9..1.1).contains(&memory), "{memory}: {fit}");
        assert!((0.99..1.01).contains(&gflop), "{gflop}");
        // A busy machine slows the frame or the ceilings.
        assert!((0.1..10.0).contains(&time), "{time}: {fit}");
        assert_eq!((&fit["fits"], &fit["is_live"]), (&true.into(), &true.into()));
        let bytes = json(&[&["fit", "demo", "--weights", "int8"], &common[..]].concat());
        let less = ratio(&bytes["weight_bytes"], &fit["weight_bytes"]);
        assert!((0.25..0.55).contains(&less), "{less}: {bytes}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    failed(&run(&["models", "fit", "demo", "--size", "8192x8192"]), 1, &["does not fit", "needs", "limit"]);
    failed(&run(&["models", "fit", "demo", "--size", "65x64"]), 2, &["65"]);
    failed(&run(&["models", "fit", "nowhere"]), 2, &["nowhere"]);
    // More steps than a stream takes are those of single pictures.
    let folder = model(WHOLE);
    let path = folder.path().to_str().unwrap();
    let fit =
        json(&["fit", path, "--size", "64x48", "--steps", "20", "--strength", "1", "--sampler", "euler"]);
    assert_eq!((&fit["steps"], &fit["is_live"]), (&20.into(), &false.into()));
    let text = succeed(&["models", "fit", path, "--size", "64x48", "--steps", "2"]);
    assert!(text.contains("fits") && text.contains("frames/s") && text.contains("weights"), "{text}");
}
