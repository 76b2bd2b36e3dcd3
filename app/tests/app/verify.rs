//! `dreamglass verify` on the goldens that diffusers made.

use std::fs;
use std::path::Path;
use std::process::Output;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::program::{DEMO, WHOLE, dreamglass, failed, golden, model};

fn verify(model: &Path, reference: &Path, more: &[&str]) -> Output {
    let mut command = dreamglass();
    command.arg("verify").arg("--model").arg(model).arg("--reference").arg(reference);
    command.args(more).output().unwrap()
}

fn check(name: &str, more: &[&str]) -> Output {
    verify(model(name).path(), &golden(name).join("reference.safetensors"), more)
}

#[test]
fn models_agree_with_diffusers() {
    for (name, tensor) in [
        ("unet_sd15", "unet.noise_pred"),
        ("unet_lcm_cond", "unet.noise_pred"),
        ("vae_default", "vae_decoder.image"),
        ("vae_kl", "vae_decoder.image"),
        ("text_gelu", "text_encoder.hidden_states"),
        (WHOLE, "img2img.output"),
    ] {
        for dtype in ["f32", "f16"] {
            let output = check(name, &["--dtype", dtype]);
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(0), "{name} {dtype}: {output:?}");
            let line = lines.lines().find(|l| l.contains(tensor)).unwrap();
            assert!(line.contains("relative L2") && line.contains("max error"), "{line}");
        }
    }
}

#[test]
fn the_embedded_model_agrees_with_diffusers() {
    for look in ["comic", "watercolour"] {
        let reference = Path::new(DEMO).join(format!("img2img_{look}.safetensors"));
        // 45 dB is an error of 1.4 levels of 256, 38 dB of 3.2: f16 rounds weights and activations.
        // Int8 rounds weights to steps of 1/127 of their channel's largest: 42 dB are 2 levels, and the looks have 47 and
        // 50.
        let storages =
            [("f32", "same", 45.0), ("f16", "same", 38.0), ("f32", "int8", 42.0), ("f16", "int8", 42.0)];
        for (dtype, weights, least) in storages {
            let mut command = dreamglass();
            command.arg("verify").arg("--reference").arg(&reference).args(["--dtype", dtype, "--json"]);
            command.args(["--weights", weights]);
            let output = command.args(["--tolerance", "0.1"]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{look} {dtype}: {output:?}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let psnr = report["tensors"][0]["psnr_db"].as_f64().unwrap();
            eprintln!("{look} {dtype} {weights}: {psnr:.2} dB");
            assert!(psnr >= least, "{look} {dtype} {weights}: {psnr} dB, expected {least}");
        }
    }
}

#[test]
fn outside_is_1_and_json_says_so() {
    let output = check(WHOLE, &["--json", "--tolerance", "1e-12"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["passed"], false);
    let tensors = report["tensors"].as_array().unwrap();
    assert!(tensors.iter().any(|t| t["name"] == "img2img.output" && t["passed"] == false));
    assert!(tensors.iter().all(|t| t["relative_l2"].as_f64().unwrap() < 1e-4));
}

#[test]
fn a_wrong_model_is_outside() {
    // The same shapes with other weights: the seeds come from names, so two names are exchanged.
    let folder = model("vae_default");
    let path = folder.path().join("vae/diffusion_pytorch_model.safetensors");
    let mut weights = crate::program::load(&path);
    let (a, b) = ("decoder.layers.3.conv.0.weight", "decoder.layers.3.conv.2.weight");
    for weight in &mut weights {
        match &weight.name {
            name if name == a => weight.name = b.into(),
            name if name == b => weight.name = a.into(),
            _ => {}
        }
    }
    crate::program::save(&path, &weights);
    let output = verify(folder.path(), &golden("vae_default").join("reference.safetensors"), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("OUTSIDE"));
}

#[test]
fn references_that_cannot_be_used() {
    let folder = model("vae_default");
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("reference.safetensors");
    let with = |tensors: &[(&str, &[usize], &[f32])], words: &[&str]| {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.2.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes);
        let views = views.map(|(t, b)| (t.0, TensorView::new(Dtype::F32, t.1.to_vec(), b).unwrap()));
        safetensors::serialize_to_file(views, None, &path).unwrap();
        failed(&verify(folder.path(), &path, &[]), 2, words);
    };
    with(&[("something.else", &[1], &[0.0])], &["none of the reference tensors"]);
    with(&[("vae_encoder.latents", &[1], &[0.0])], &["vae_encoder.image"]);
    with(&[("vae_encoder.latents", &[1], &[f32::NAN])], &["vae_encoder.latents", "NaN"]);
    let flat: (&str, &[usize], &[f32]) = ("vae_encoder.image", &[3], &[0.0; 3]);
    with(&[flat, ("vae_encoder.latents", &[1], &[0.0])], &["vae_encoder.image", "[N,C,H,W]"]);
    with(&[("unet.noise_pred", &[1], &[0.0]), ("unet.sample", &[1, 1, 1, 1], &[0.0])], &["unet.timestep"]);
    fs::write(&path, "no tensors").unwrap();
    failed(&verify(folder.path(), &path, &[]), 2, &["reference.safetensors", "safetensors file"]);
    failed(&verify(folder.path(), &files.path().join("gone"), &[]), 2, &["gone"]);
    failed(&check("vae_default", &["--tolerance", "-1"]), 2, &["tolerance"]);
}
