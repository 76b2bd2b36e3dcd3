//! Pictures through whole models.

use std::path::Path;

use tempfile::TempDir;

use crate::program::{PHOTO, WHOLE, model, run, stderr, succeed};

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
#[ignore = "the embedded UNet is undertrained, see models/demo/README.md: some looks are too close"]
fn every_embedded_look_changes_a_photo_in_its_own_way() {
    let looks = run(&["looks"]);
    if !looks.status.success() {
        eprintln!("skipped: {}", stderr(&looks));
        assert!(stderr(&looks).contains("without models/demo"));
        return;
    }
    let looks = String::from_utf8(looks.stdout).unwrap();
    // The look `none` gives the photo back.
    let names: Vec<&str> =
        looks.lines().map(|l| l.split("  ").next().unwrap()).filter(|n| *n != "none").collect();
    assert!(names.len() >= 8, "{looks}");
    let out = TempDir::new().unwrap();
    let photo = image::open(PHOTO).unwrap().into_rgb8();
    let mut results = vec![("photo", photo)];
    for name in names {
        let result = stylise(&out, "out.png", &["--look", name, "--size", "256x256"]);
        for (other, picture) in &results {
            // Ten levels of 256 on average: far from noise, well within any two looks' distance.
            assert!(distance(&result, picture) > 10.0, "{name} looks like {other}");
        }
        results.push((name, result));
    }
}

/// Root mean square difference in levels.
fn distance(a: &image::RgbImage, b: &image::RgbImage) -> f64 {
    let square = |(x, y): (&u8, &u8)| (f64::from(*x) - f64::from(*y)).powi(2);
    (a.iter().zip(b.iter()).map(square).sum::<f64>() / a.len() as f64).sqrt()
}
