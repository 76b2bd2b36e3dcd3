//! Adapters: listed, chosen, missing, and too small for what is asked.

use serde_json::Value;

use crate::program::{WHOLE, dreamglass, failed, image, model, succeed};

fn adapters() -> Vec<Value> {
    serde_json::from_str(&succeed(&["devices", "--json"])).unwrap()
}

#[test]
fn devices_are_listed() {
    let list = adapters();
    assert!(!list.is_empty(), "no adapter: `make test` installs a software one");
    let text = succeed(&["devices"]);
    for (index, adapter) in list.iter().enumerate() {
        assert_eq!(adapter["index"], index);
        assert!(text.contains(&format!("{index}: {}", adapter["name"].as_str().unwrap())));
    }
}

#[test]
fn a_choice_that_fits_nothing() {
    let folder = model(WHOLE);
    failed(&image(folder.path(), &["--adapter", "99"]), 1, &["adapter 99"]);
    failed(&image(folder.path(), &["--adapter", "no such name"]), 1, &["no such name"]);
    failed(&image(folder.path(), &["--adapter", ""]), 2, &["--adapter"]);
}

#[test]
#[cfg(target_os = "linux")]
fn no_adapter() {
    let without = |arguments: &[&str]| {
        let mut command = dreamglass();
        command.args(arguments);
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, "/nonexistent");
        }
        command.output().unwrap()
    };
    failed(&without(&["devices"]), 1, &["no adapter"]);
    let folder = model(WHOLE);
    let model = folder.path().to_str().unwrap();
    let out = folder.path().join("out.png");
    let arguments = ["image", crate::program::PHOTO, "-o", out.to_str().unwrap(), "--model", model];
    failed(&without(&[&arguments[..], &["--prompt", "x"]].concat()), 1, &["no adapter"]);
}

#[test]
fn more_than_the_device_holds() {
    if adapters()[0]["is_software"] != true {
        eprintln!("skipped: this GPU may well hold it");
        return;
    }
    let folder = model(WHOLE);
    failed(&image(folder.path(), &["--size", "8192x8192"]), 1, &["needs", "limit"]);
}
