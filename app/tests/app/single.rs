//! Models of one file on the command line.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::{PHOTO, Weight, dreamglass, failed, image, save};
use crate::weights;

/// The tensors of a golden, those whose names `rename` knows under the names that it gives them.
fn tensors(golden: &str, rename: impl Fn(&str) -> Option<String>) -> Vec<Weight> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/single").join(golden);
    let rows: Vec<(String, Vec<usize>)> =
        serde_json::from_slice(&std::fs::read(path.join("tensors.json")).unwrap()).unwrap();
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let bytes = weights::tensor(&name, &shape).iter().flat_map(|v| v.to_le_bytes()).collect();
        Some(Weight { name: rename(&name)?, shape, bytes })
    };
    rows.into_iter().filter_map(tensor).collect()
}

/// A folder with a checkpoint of SD 1.x and TAESD's own files.
fn files(folder: &Path, strays: &[&str], without: &str) -> PathBuf {
    let mut whole = tensors("sd1", |name| (name != without).then(|| name.to_string()));
    whole.extend(strays.iter().map(|name| Weight {
        name: name.to_string(),
        shape: vec![1],
        bytes: vec![0; 4],
    }));
    save(&folder.join("model.safetensors"), &whole);
    for half in ["encoder", "decoder"] {
        let own = |name: &str| Some(name.strip_prefix(half)?.strip_prefix('.')?.to_string());
        save(&folder.join(format!("taesd_{half}.safetensors")), &tensors("taesd", own));
    }
    folder.join("model.safetensors")
}

fn picture(folder: &Path, model: &Path, more: &[&str]) -> std::process::Output {
    let out = folder.join("out.png");
    let common = ["image", PHOTO, "-o", out.to_str().unwrap(), "--model", model.to_str().unwrap()];
    let mut command = dreamglass();
    command.env("RUST_LOG", "warn").args(common).args(["--prompt", "an oil painting", "--size", "64x64"]);
    command.args(["--steps", "1", "--strength", "1"]).args(more).output().unwrap()
}

#[test]
fn a_file_with_taesd_beside_it_makes_pictures() {
    let folder = TempDir::new().unwrap();
    let known = ["model_ema.decay", "alphas_cumprod", "first_stage_model.loss.logvar"];
    let strays = [&known[..], &["model.diffusion_model.extra.bias", "odd.weight"]].concat();
    let model = files(folder.path(), &strays, "");
    let taesd = ["--vae", folder.path().to_str().unwrap()];
    let done = picture(folder.path(), &model, &taesd);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    // Averages and tables of the training are known; what the model has no place for is named.
    assert!(said.contains("steps 1 is too few") && said.contains("LCM-LoRA"), "{said}");
    assert!(said.contains("2 tensors") && said.contains("model.diffusion_model.extra.bias"), "{said}");
    let out = image::open(folder.path().join("out.png")).unwrap().into_rgb8();
    assert_eq!(out.dimensions(), (64, 64));
    let first = out.get_pixel(0, 0);
    assert!(out.pixels().any(|pixel| pixel != first), "one colour");
}

#[test]
fn a_file_makes_pictures_with_its_own_large_autoencoder() {
    let folder = TempDir::new().unwrap();
    let model = files(folder.path(), &[], "");
    let done = picture(folder.path(), &model, &[]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("AutoencoderKL") && said.contains("--vae"), "{said}");
    let own = image::open(folder.path().join("out.png")).unwrap().into_rgb8();
    assert_eq!(own.dimensions(), (64, 64));
    // A large one by choice is nobody's mistake, and of the same weights makes the same.
    let alone = folder.path().join("vae.safetensors");
    save(&alone, &tensors("sd1", |name| name.strip_prefix("first_stage_model.").map(String::from)));
    let done = picture(folder.path(), &model, &["--vae", alone.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("AutoencoderKL"), "{said}");
    assert_eq!(image::open(folder.path().join("out.png")).unwrap().into_rgb8(), own);
}

#[test]
fn what_a_file_lacks_is_named_as_the_file_has_it() {
    let folder = TempDir::new().unwrap();
    let lost = "model.diffusion_model.middle_block.0.in_layers.2.weight";
    let model = files(folder.path(), &[], lost);
    let taesd = ["--vae", folder.path().to_str().unwrap()];
    failed(&picture(folder.path(), &model, &taesd), 2, &["mid_block.resnets.0.conv1.weight", lost]);
    let nothing = folder.path().join("nothing.safetensors");
    failed(&image(&nothing, &[]), 2, &["nothing.safetensors", "found nothing"]);
    std::fs::write(folder.path().join("a.ckpt"), b"PK").unwrap();
    failed(&image(&folder.path().join("a.ckpt"), &[]), 2, &["a.ckpt", "pickled"]);
    failed(&image(Path::new("demo"), &["--vae", "nowhere"]), 2, &["--vae", "nowhere", "taesd_encoder"]);
}
