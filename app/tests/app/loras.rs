//! LoRAs on the command line.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::{PHOTO, WHOLE, Weight, failed, image, model, save, succeed};
use crate::weights;

/// A module of the model's UNet, and its channels.
pub const MODULE: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v";
const CHANNELS: usize = 32;
const RANK: usize = 2;

/// A file with a change of `module`.
pub fn lora(folder: &Path, name: &str, module: &str) -> PathBuf {
    let factor = |end: &str, shape: [usize; 2]| Weight {
        name: format!("unet.{module}.lora_{end}.weight"),
        shape: shape.to_vec(),
        bytes: weights::unit(end, &shape).iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let path = folder.join(name);
    save(&path, &[factor("A", [RANK, CHANNELS]), factor("B", [CHANNELS, RANK])]);
    path
}

#[test]
fn a_lora_changes_the_picture_by_its_weight() {
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    // A name with the sign that weights come behind.
    let lora = lora(folder.path(), "a=b.safetensors", MODULE);
    let lora = lora.to_str().unwrap();
    let picture = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let common = ["image", PHOTO, "-o", out.to_str().unwrap(), "--model", model.path().to_str().unwrap()];
        succeed(&[&common[..], &["--prompt", "x", "--size", "64x48"], more].concat());
        image::open(out).unwrap().into_rgb8()
    };
    let plain = picture("plain.png", &[]);
    let whole = picture("whole.png", &["--lora", lora]);
    let [half, none, back] = ["0.5", "0", "-0.5"].map(|weight| format!("{lora}={weight}"));
    assert_ne!(plain, whole);
    assert_ne!(whole, picture("half.png", &["--lora", &half]));
    assert_eq!(plain, picture("none.png", &["--lora", &none]));
    assert_eq!(
        picture("half.png", &["--lora", &half]),
        picture("less.png", &["--lora", lora, "--lora", &back])
    );
}

#[test]
fn loras_that_cannot_be_used_are_named() {
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let refused = |lora: &str, words: &[&str]| failed(&image(model.path(), &["--lora", lora]), 2, words);
    let good = lora(folder.path(), "good.safetensors", MODULE);
    refused("nowhere.safetensors", &["--lora", "nowhere.safetensors", "found nothing"]);
    refused(&format!("{}=much", good.display()), &["--lora", "`much`", "a number"]);
    refused(&format!("{}=nan", good.display()), &["`nan`", "a number"]);
    let other = lora(folder.path(), "other.safetensors", "mid_block.attentions.9.proj_in");
    refused(
        other.to_str().unwrap(),
        &["other.safetensors", "mid_block.attentions.9.proj_in.lora_A.weight", "no weight"],
    );
    let photo = folder.path().join("photo.safetensors");
    std::fs::copy(PHOTO, &photo).unwrap();
    refused(photo.to_str().unwrap(), &["photo.safetensors", "safetensors file"]);
}
