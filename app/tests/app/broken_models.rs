//! Models that are damaged, incomplete or not supported: exit code 2 and the culprit's name.

use std::fs;
use std::path::Path;

use crate::program::{PHOTO, WHOLE, Weight, dreamglass, failed, image, load, model, save};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// A whole model whose `file` was changed by `damage`.
fn damaged(file: &str, damage: impl Fn(&Path), words: &[&str]) {
    let folder = model(WHOLE);
    damage(&folder.path().join(file));
    failed(&image(folder.path(), &[]), 2, words);
}

/// A whole model with `field` of one config set to `value`.
fn with_field(file: &str, field: &str, value: serde_json::Value, words: &[&str]) {
    let change = |path: &Path| {
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        config[field] = value.clone();
        fs::write(path, config.to_string()).unwrap();
    };
    damaged(file, change, words);
}

#[test]
fn truncated_weights() {
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    damaged(UNET, cut, &[UNET, "truncated"]);
    damaged(UNET, |path| fs::write(path, [1, 2, 3]).unwrap(), &[UNET, "3 bytes"]);
    damaged(UNET, |path| fs::write(path, []).unwrap(), &[UNET, "0 bytes"]);
}

#[test]
fn weights_with_a_huge_header() {
    let lie = |length: u64| {
        move |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            fs::write(path, bytes).unwrap();
        }
    };
    damaged(UNET, lie(u64::MAX), &[UNET, "header"]);
    damaged(UNET, lie(50_000_000), &[UNET, "header"]);
}

#[test]
fn missing_misshaped_and_nan_weights() {
    let name = "conv_in.weight";
    let edit = |change: fn(&mut crate::program::Weight)| {
        move |path: &Path| {
            let mut weights = load(path);
            change(weights.iter_mut().find(|w| w.name == name).unwrap());
            save(path, &weights);
        }
    };
    damaged(UNET, edit(|w| w.name = "conv_gone.weight".into()), &[name, "no weight"]);
    damaged(UNET, edit(|w| w.shape.swap(0, 1)), &[name, "shape"]);
    damaged(UNET, edit(|w| w.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes())), &[name, "NaN"]);
}

#[test]
fn configs_that_are_not_supported() {
    let config = "unet/config.json";
    let blocks = serde_json::json!(["FancyBlock2D", "DownBlock2D"]);
    with_field(config, "down_block_types", blocks, &[config, "down_block_types", "FancyBlock2D"]);
    with_field(config, "act_fn", "tanh".into(), &[config, "act_fn", "tanh"]);
    with_field(config, "layers_per_block", (-1).into(), &[config, "layers_per_block", "-1"]);
    with_field("vae/config.json", "_class_name", "VQModel".into(), &["vae/config.json", "VQModel"]);
    damaged(config, |path| fs::write(path, "{").unwrap(), &[config]);
    damaged("text_encoder/config.json", |path| fs::remove_file(path).unwrap(), &["text_encoder/config.json"]);
}

#[test]
fn no_model() {
    failed(&image(Path::new("/nonexistent"), &[]), 2, &["/nonexistent", "nothing there"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    failed(&image(file.path(), &[]), 2, &["not a safetensors file"]);
    let empty = tempfile::tempdir().unwrap();
    failed(&image(empty.path(), &[]), 2, &["scheduler"]);
}

#[test]
fn another_autoencoder_takes_the_place_of_one_that_is_not_supported() {
    let (folder, tiny) = (model(WHOLE), tempfile::TempDir::new().unwrap());
    let config = folder.path().join("vae/config.json");
    let own = tiny.path().join("taesd");
    fs::create_dir(&own).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(folder.path().join("vae").join(file), own.join(file)).unwrap();
    }
    let text = fs::read_to_string(&config).unwrap().replace("AutoencoderTiny", "VQModel");
    fs::write(&config, text).unwrap();
    failed(
        &image(folder.path(), &[]),
        2,
        &["vae/config.json", "VQModel", "AutoencoderTiny", "AutoencoderKL"],
    );
    let output = image(folder.path(), &["--vae", own.to_str().unwrap()]);
    assert!(output.status.success(), "{}", crate::program::stderr(&output));
    let nowhere = tiny.path().join("nothing");
    failed(
        &image(folder.path(), &["--vae", nowhere.to_str().unwrap()]),
        2,
        &["--vae", "nothing", "config.json"],
    );
}

#[test]
fn tensors_that_nothing_reads_are_named() {
    let (folder, out) = (model(WHOLE), tempfile::TempDir::new().unwrap());
    let path = folder.path().join(UNET);
    let mut weights = load(&path);
    let bytes = 1.0_f32.to_le_bytes().to_vec();
    weights.push(Weight { name: "add_embedding.weight".into(), shape: vec![1], bytes });
    save(&path, &weights);
    let mut command = dreamglass();
    command.arg("image").arg(PHOTO).arg("-o").arg(out.path().join("out.png")).env("RUST_LOG", "warn");
    let output = command.arg("--model").arg(folder.path()).args(["--prompt", "x"]).output().unwrap();
    let message = crate::program::stderr(&output);
    assert!(output.status.success() && message.contains("`unet: add_embedding.weight`"), "{message}");
}
