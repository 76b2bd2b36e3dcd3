//! Who may know whom: `wgsl <- kernels <- engine <- app`, and what each room must never do.
//!
//! Manifests say which crates come in, sources which names; words in comments do not count.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

#[path = "../tidy/sources.rs"]
mod sources;

use sources::Source;

/// A place, the words that its code must never say, and why.
struct Rule {
    place: &'static str,
    never: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        place: "wgsl/",
        never: &["unet", "vae", "clip", "lcm", "euler", "latent", "prompt", "diffusion"],
        why: "a kernel is a formula: it knows no model",
    },
    Rule {
        place: "kernels/src/",
        never: &["dreamglass_engine", "tokio", "serde", "serde_json", "image", "safetensors", "tokenizers"],
        why: "kernels know tensors, not files or models",
    },
    Rule {
        place: "kernels/src/",
        never: &["unet", "vae", "latent", "latents", "prompt", "scheduler"],
        why: "kernels do not name what they are used for",
    },
    Rule {
        place: "kernels/src/",
        never: &["std::env", "env::var", "Instant", "SystemTime"],
        why: "neither the environment nor a clock decides what a kernel does",
    },
    Rule {
        place: "engine/src/",
        never: &["dreamglass::", "tokio", "axum", "anyhow", "clap", "image::", "wgpu"],
        why: "the engine is a library on top of kernels",
    },
    Rule {
        place: "engine/src/model/",
        never: &["crate::schedule", "crate::stream", "crate::text", "crate::engine", "crate::plans"],
        why: "a network is recorded without knowing who calls it",
    },
    Rule {
        place: "engine/src/stream/",
        never: &[
            "dreamglass_kernels",
            "crate::model",
            "std::thread",
            "Instant",
            "SystemTime",
            "sleep",
            "getrandom",
        ],
        why: "time and chance come from outside, so that virtual hours test in milliseconds",
    },
    Rule {
        place: "engine/src/live/",
        never: &["std::thread", "Instant", "SystemTime", "sleep", "block_on", ".wait()"],
        why: "a frame waits for nothing: threads and clocks belong to the app",
    },
    Rule {
        place: "engine/src/schedule/",
        never: &["dreamglass_kernels", "std::thread", "Instant"],
        why: "a schedule is a table",
    },
    Rule {
        place: "app/src/source/",
        never: &["crate::sink", "dreamglass_engine::model", "kernels"],
        why: "a source hands over pictures and knows nothing of their way",
    },
    Rule {
        place: "app/src/sink/",
        never: &["crate::source", "dreamglass_engine::model", "kernels"],
        why: "a sink takes pictures and knows nothing of their way",
    },
    Rule {
        place: "app/src/repository/",
        never: &["dreamglass_engine", "kernels", "crate::commands", "crate::model", "crate::live"],
        why: "the hub hands over files and knows nothing of what they are for",
    },
    Rule {
        place: "app/src/codec/",
        never: &["crate::hub", "crate::web", "crate::rtc", "crate::peers", "crate::live", "axum", "webrtc"],
        why: "the codec turns pictures into bytes and back, whoever wants them",
    },
    Rule {
        place: "app/src/rtc/",
        never: &["dreamglass_engine", "crate::hub", "crate::web", "crate::peers", "crate::codec", "axum"],
        why: "the transport carries bytes, so that another could take its place",
    },
    Rule {
        place: "app/src/hub/",
        never: &["crate::web", "crate::peers", "crate::rtc", "axum", "webrtc"],
        why: "streams do not know who serves them",
    },
    Rule {
        place: "app/src/peers/",
        never: &["axum", "crate::web", "crate::live", "openh264", "webrtc"],
        why: "peers join streams and transport, and neither HTTP nor the codec is theirs",
    },
    Rule {
        place: "app/src/web/",
        never: &["webrtc", "openh264", "crate::live", "crate::codec", "crate::source", "crate::sink"],
        why: "the server speaks HTTP for streams and peers, and reaches nothing behind them",
    },
];

/// The only places that may say a word, where the word has one home: files, or folders with a slash.
const HOMES: &[(&str, &[&str])] = &[
    // Everything else reaches the driver through the kernels' types.
    (
        "wgpu",
        &[
            "kernels/src/gpu.rs",
            "kernels/src/matrices.rs",
            "kernels/src/pipelines.rs",
            "kernels/src/exec.rs",
            "kernels/src/submit.rs",
            "kernels/src/buffer.rs",
            "kernels/src/host_buffer.rs",
            "kernels/src/upload.rs",
            "kernels/src/readback.rs",
            "kernels/src/profile.rs",
            // Presents the device's picture without read-back.
            "app/src/sink/window/renderer.rs",
        ],
    ),
    (
        "CommandEncoderDescriptor",
        &[
            "kernels/src/submit.rs",
            "kernels/src/buffer.rs",
            "kernels/src/upload.rs",
            "app/src/sink/window/renderer.rs",
        ],
    ),
    // Nothing is downloaded but by who says so; the broadcaster announces itself to a server of the user's.
    ("ureq", &["app/src/repository/", "app/src/peers/broadcaster.rs"]),
    ("webrtc::", &["app/src/rtc/"]),
    ("openh264", &["app/src/codec/"]),
    ("axum::", &["app/src/web/", "app/src/commands/serve/"]),
];

/// Dependencies that a package must not have, whatever its sources say.
const PACKAGES: &[(&str, &[&str])] = &[
    ("kernels", &["dreamglass-engine", "dreamglass", "tokio", "serde", "serde_json", "image", "safetensors"]),
    ("engine", &["dreamglass", "tokio", "axum", "anyhow", "clap", "image", "wgpu"]),
    ("app", &["wgpu", "naga", "tokenizers", "memmap2"]),
];

#[test]
fn rooms_say_nothing_that_they_must_not_know() {
    let mut broken = String::new();
    let sources = sources::all();
    for rule in RULES {
        let there: Vec<&Source> = sources.iter().filter(|s| s.path.starts_with(rule.place)).collect();
        assert!(!there.is_empty(), "{} holds no source: the rule checks nothing", rule.place);
        for (source, word) in there.iter().flat_map(|s| rule.never.iter().map(move |w| (s, w))) {
            for (number, _) in source.code().filter(|(_, line)| says(line, word)) {
                broken += &format!("{}:{number}: `{word}`: {}\n", source.path, rule.why);
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn words_with_one_home_stay_there() {
    let mut broken = String::new();
    for (word, homes) in HOMES {
        for source in sources::all()
            .iter()
            .filter(|s| is_product(&s.path) && !homes.iter().any(|h| is_home(h, &s.path)))
        {
            for (number, _) in source.code().filter(|(_, line)| says(line, word)) {
                broken += &format!("{}:{number}: `{word}` belongs in {homes:?}\n", source.path);
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn manifests_let_nothing_in_that_does_not_belong() {
    for (package, never) in PACKAGES {
        let names = dependencies(package);
        assert!(!names.is_empty(), "{package} has no dependencies: the rule checks nothing");
        for name in never.iter().copied().chain(["dreamglass-tests", "dreamglass-benches"]) {
            assert!(!names.iter().any(|n| n == name), "{package} must not depend on {name}");
        }
    }
}

fn is_home(home: &str, path: &str) -> bool {
    if home.ends_with('/') { path.starts_with(home) } else { path == home }
}

fn is_product(path: &str) -> bool {
    ["kernels/src/", "engine/src/", "app/src/"].iter().any(|place| path.starts_with(place))
}

/// Names in `[dependencies]` of a package's manifest.
fn dependencies(package: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(sources::root().join(package).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_string();
    section.lines().map(name).filter(|n| !n.is_empty() && !n.starts_with('#')).collect()
}

/// Whether `line` holds `word` as a whole word.
fn says(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back().is_some_and(is_part);
        let after = line[start + word.len()..].chars().next().is_some_and(is_part);
        !before && (!after || word.ends_with(':'))
    })
}

#[test]
fn words_are_whole() {
    assert!(says("use image::Rgb;", "image"));
    assert!(!says("let images = 1;", "image"));
    assert!(!says("let my_image = 1;", "image"));
    assert!(says("image::open(path)", "image::"));
}
