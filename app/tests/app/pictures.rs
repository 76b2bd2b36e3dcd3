//! Pictures through whole models.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::program::{DEMO, PHOTO, WHOLE, dreamglass, model, stderr, succeed};

/// Arguments of `image PHOTO`, and where the result goes.
fn stylise(folder: &TempDir, name: &str, more: &[&str]) -> image::RgbImage {
    let out = folder.path().join(name);
    let out = out.to_str().unwrap();
    succeed(&[&["image", PHOTO, "-o", out], more].concat());
    image::open(out).unwrap().into_rgb8()
}

#[test]
fn a_seed_fixes_the_picture() {
    let (model, out) = (model(WHOLE), TempDir::new().unwrap());
    let model = model.path().to_str().unwrap();
    let common = ["--model", model, "--prompt", "a pencil sketch", "--size", "64x48"];
    let with = |name: &str, more: &[&str]| stylise(&out, name, &[&common[..], more].concat());
    let first = with("first.png", &["--seed", "1"]);
    assert_eq!(first.dimensions(), (64, 48));
    assert_eq!(first, with("again.png", &["--seed", "1"]));
    assert_ne!(first, with("other.png", &["--seed", "2"]));
    assert_ne!(first, with("stretched.png", &["--seed", "1", "--fit", "stretch"]));
    for name in ["out.jpg", "out.webp", "out.bmp", "out.gif", "out.tiff"] {
        assert_eq!(with(name, &[]).dimensions(), (64, 48), "{name}");
    }
}

/// The first picture of a prompt that an earlier run encoded needs no text encoder, and is the same.
#[test]
fn prompts_are_kept_on_disk() {
    let (model, out, cache) = (model(WHOLE), TempDir::new().unwrap(), TempDir::new().unwrap());
    let picture = |cache: &Path, prompt: &str| {
        let path = out.path().join("out.png");
        let mut command = dreamglass();
        command.env("DREAMGLASS_KERNEL_CACHE", cache).args(["image", PHOTO, "--size", "64x48"]);
        command.args(["--prompt", prompt, "-o"]).arg(&path).arg("--model").arg(model.path());
        let output = command.output().unwrap();
        output.status.success().then(|| image::open(path).unwrap().into_rgb8()).ok_or_else(|| stderr(&output))
    };
    let expected = picture(Path::new("off"), "a pencil sketch").unwrap();
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    assert_eq!(picture(cache.path(), "a pencil sketch").unwrap(), expected);
    let kept = || fs::read_dir(cache.path().join("prompts")).unwrap().count();
    assert_eq!(kept(), 1);

    let weights = model.path().join("text_encoder/model.safetensors");
    let modified = fs::metadata(&weights).unwrap().modified().unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 8;
    bytes[header..].fill(0xff);
    fs::write(&weights, bytes).unwrap();
    fs::File::options().write(true).open(&weights).unwrap().set_modified(modified).unwrap();
    assert_eq!(picture(cache.path(), "a pencil sketch").unwrap(), expected);
    let error = picture(cache.path(), "an ink drawing").unwrap_err();
    assert!(error.contains("not a finite number"), "{error}");
    assert_eq!(kept(), 1);
}

#[test]
fn the_result_keeps_the_sources_shape() {
    let (model, files) = (model(WHOLE), TempDir::new().unwrap());
    let source = files.path().join("wide.png");
    image::RgbImage::new(100, 50).save(&source).unwrap();
    let out = files.path().join("out.png");
    let paths = [source.as_path(), Path::new("-o"), &out, Path::new("--model"), model.path()];
    let words = paths.iter().map(|p| p.to_str().unwrap());
    succeed(&["image"].into_iter().chain(words).chain(["--prompt", "x"]).collect::<Vec<_>>());
    let (width, height) = image::open(out).unwrap().into_rgb8().dimensions();
    assert_eq!(width, 2 * height);
}

#[test]
fn every_embedded_look_comes_close_to_its_own_target() {
    let looks = succeed(&["looks"]);
    // The look `none` gives the photo back.
    let names: Vec<&str> =
        looks.lines().map(|l| l.split("  ").next().unwrap()).filter(|n| *n != "none").collect();
    assert!(names.len() >= 8, "{looks}");
    let out = TempDir::new().unwrap();
    let read = |name: &str| image::open(Path::new(DEMO).join(name)).unwrap().into_rgb8();
    let photo = read("photo.png");
    let targets: Vec<_> = names.iter().map(|n| read(&format!("{}.jpg", n.replace(' ', "_")))).collect();
    for (name, target) in names.iter().zip(&targets) {
        let path = out.path().join("out.png");
        let source = format!("{DEMO}/photo.png");
        succeed(&["image", &source, "-o", path.to_str().unwrap(), "--look", name]);
        let result = image::open(path).unwrap().into_rgb8();
        let errors: Vec<f64> = targets.iter().map(|t| square_error(&result, t)).collect();
        let own = square_error(&result, target);
        assert!(errors.iter().all(|e| own <= *e), "{name} is nearest to another look: {errors:?}");
        let explained = 1.0 - own / square_error(&photo, target);
        assert!(explained >= 0.5, "{name} explains {explained:.2} of the change");
    }
}

/// Mean square difference in levels.
fn square_error(a: &image::RgbImage, b: &image::RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let square = |(x, y): (&u8, &u8)| (f64::from(*x) - f64::from(*y)).powi(2);
    a.iter().zip(b.iter()).map(square).sum::<f64>() / a.len() as f64
}
