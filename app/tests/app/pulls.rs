//! `models pull` against a server that behaves like the hub, well and badly.

use std::fs;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::hub::{COMMIT, Fault, Hub, git, sha256};
use crate::program::{PHOTO, failed, stderr};

const DEMO: &str = "dreamglass/demo";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn pull(hub: &Hub, more: &[&str]) -> Output {
    let output = hub.program(&[&["models", "pull"], more].concat()).output().unwrap();
    hub.check_cache();
    output
}

#[track_caller]
fn pulled(hub: &Hub, more: &[&str]) -> String {
    let output = pull(hub, more);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Nothing of it may look like a model.
#[track_caller]
fn expect_nothing(hub: &Hub) {
    let found = hub.cached();
    assert!(!found.iter().any(|path| path.contains("/snapshots/") || path.contains("/refs/")), "{found:?}");
}

#[test]
fn a_model_is_fetched_and_used_by_name() {
    let hub = Hub::with_demo();
    let absent = hub.program(&["image", PHOTO, "-o", "unused.png", "--model", DEMO]).output().unwrap();
    failed(&absent, 2, &["dreamglass models pull dreamglass/demo"]);
    let path = pulled(&hub, &[DEMO]);
    assert!(path.ends_with(&format!("models--dreamglass--demo/snapshots/{COMMIT}")), "{path}");
    assert!(!hub.cached().iter().any(|path| path.ends_with(".bin") || path.ends_with(".incomplete")));
    assert!(hub.seen(".bin").is_empty());
    // Small files come from the hub itself, large ones from where it sends us.
    assert!(hub.seen("unet/config.json").iter().all(|seen| !seen.is_cdn));
    assert_eq!(hub.seen(UNET).iter().map(|seen| seen.is_cdn).collect::<Vec<_>>(), [false, true]);
    let looks = hub.program(&["looks", "--model", DEMO]).output().unwrap();
    assert!(looks.status.success() && String::from_utf8_lossy(&looks.stdout).contains("watercolour"));
    let out = hub.cache().join("out.png");
    let out = out.to_str().unwrap();
    let arguments = ["image", PHOTO, "-o", out, "--size", "64x64", "--model"];
    for model in [DEMO, &format!("{DEMO}@{COMMIT}"), &path] {
        let made = hub.program(&[&arguments[..], &[model, "--vae", DEMO]].concat()).output().unwrap();
        assert!(made.status.success(), "{model}: {}", stderr(&made));
    }
    let before = hub.seen("").len();
    assert_eq!(pulled(&hub, &[DEMO]), path);
    assert_eq!(hub.seen("").len() - before, 1, "only the list is asked for again");
    assert_eq!(pulled(&hub, &[DEMO, "--offline"]), path);
    let offline = hub.program(&["models", "pull", "taesd"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    failed(&offline, 2, &["madebyollin/taesd", "not in the cache", "HF_HUB_OFFLINE"]);
    assert_eq!(hub.seen("").len() - before, 1);
}

#[test]
fn what_passes_is_tried_again() {
    let hub = Hub::with_demo();
    hub.fail("revision/main", [Fault::Status(503, &[]), Fault::Cut(20)]);
    hub.fail("unet/config.json", [Fault::Status(429, &[("Retry-After", "1")]), Fault::Status(500, &[])]);
    hub.fail("vae/config.json", [Fault::Cut(10), Fault::Damaged]);
    hub.fail(
        UNET,
        [Fault::Cut(3_000_000), Fault::Silent(2_000_000), Fault::Status(502, &[]), Fault::Cut(100_000)],
    );
    let begun = Instant::now();
    let output = pull(&hub, &[DEMO]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    for words in
        ["503", "429 (too many requests); trying again in 1.0 s", "3000000 of 9517944", "expected", "502"]
    {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(3), "waits that were asked for");
    // Each part begins where the last one ended, and no byte of the file comes twice.
    let parts: Vec<_> = hub.seen(UNET).into_iter().filter(|seen| seen.is_cdn).collect();
    let ranges: Vec<Option<u64>> = parts.iter().map(|part| part.from).collect();
    assert_eq!(ranges, [None, Some(3_000_000), Some(5_000_000), Some(5_000_000), Some(5_100_000)]);
    assert_eq!(parts.iter().map(|part| part.sent).sum::<u64>(), 9_517_944);
}

#[test]
fn what_stays_broken_is_given_up_and_not_used() {
    let hub = Hub::with_demo();
    hub.fail(UNET, [Fault::Damaged, Fault::Damaged]);
    failed(&pull(&hub, &[DEMO]), 1, &[UNET, "SHA-256", "expected", "2 times"]);
    expect_nothing(&hub);
    hub.fail(UNET, vec![Fault::Cut(0); 5]);
    failed(&pull(&hub, &[DEMO]), 1, &[UNET, "5 times in a row"]);
    hub.fail(UNET, [Fault::Longer]);
    failed(&pull(&hub, &[DEMO]), 1, &[UNET, "more than the 9517944 bytes"]);
    hub.fail(UNET, [Fault::Status(429, &[("Retry-After", "5000")])]);
    failed(&pull(&hub, &[DEMO]), 1, &[UNET, "429", "5000 s"]);
    hub.fail(UNET, [Fault::Elsewhere("file:///etc/passwd".into())]);
    failed(&pull(&hub, &[DEMO]), 1, &["file:///etc/passwd", "http"]);
    hub.fail(
        UNET,
        vec![Fault::Elsewhere(format!("{}/dreamglass/demo/resolve/{COMMIT}/{UNET}", hub.url())); 20],
    );
    failed(&pull(&hub, &[DEMO]), 1, &["10 redirections"]);
    expect_nothing(&hub);
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let hub = Hub::with_demo();
    hub.fail(UNET, [Fault::Cut(1_500_000), Fault::Whole]);
    pulled(&hub, &[DEMO]);
    let parts: Vec<_> =
        hub.seen(UNET).into_iter().filter(|seen| seen.is_cdn).map(|seen| (seen.from, seen.sent)).collect();
    assert_eq!(parts, [(None, 1_500_000), (Some(1_500_000), 9_517_944)]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_what_came_and_the_next_pull_goes_on() {
    let hub = Hub::with_demo();
    // 64 KiB each 20 ms: the file would take 3 s.
    hub.fail(UNET, [Fault::Slow(1 << 16, 20)]);
    let mut child =
        hub.program(&["models", "pull", DEMO]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let partial = || {
        let found = hub.cached().into_iter().find(|path| path.ends_with(".incomplete"));
        found.and_then(|path| fs::metadata(hub.cache().join(path)).ok()).map_or(0, |meta| meta.len())
    };
    let begun = Instant::now();
    while partial() < 1_000_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing comes");
        thread::sleep(Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let asked = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?} to end", asked.elapsed());
    hub.check_cache();
    expect_nothing(&hub);
    let have = partial();
    assert!((1_000_000..9_517_944).contains(&have), "{have}");
    pulled(&hub, &[DEMO]);
    let last = hub.seen(UNET).pop().unwrap();
    assert_eq!((last.from, last.sent), (Some(have), 9_517_944 - have));
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let hub = Hub::with_demo();
    hub.fail(UNET, [Fault::Slow(1 << 18, 20)]);
    let children: Vec<_> = (0..3)
        .map(|_| {
            hub.program(&["models", "pull", DEMO])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    hub.check_cache();
    let sent: u64 = hub.seen(UNET).iter().filter(|seen| seen.is_cdn).map(|seen| seen.sent).sum();
    assert_eq!(sent, 9_517_944);
    assert!(outputs.iter().any(|output| stderr(output).contains("waiting")));
}

#[test]
fn what_is_not_there_is_named() {
    let hub = Hub::with_demo();
    failed(&pull(&hub, &["nobody/nothing"]), 2, &["no repository nobody/nothing", "private", "HF_TOKEN"]);
    failed(&pull(&hub, &["dreamglass/demo@v9"]), 2, &["no revision `v9`"]);
    failed(&pull(&hub, &["dreamglass/demo/x.safetensors"]), 2, &["no file `x.safetensors`", UNET]);
    failed(&pull(&hub, &["../../etc"]), 2, &["`..`"]);
    failed(&pull(&hub, &["bogus"]), 2, &["`bogus`", "OWNER/NAME", "sd-turbo"]);
    let gone =
        hub.program(&["models", "pull", DEMO]).env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    failed(&gone, 1, &["cannot be reached", "5 times"]);
    let wrong = hub.program(&["models", "pull", DEMO]).env("HF_ENDPOINT", "gopher://x").output().unwrap();
    failed(&wrong, 2, &["HF_ENDPOINT", "gopher://x"]);
    assert!(hub.cached().iter().all(|path| !path.contains("snapshots")));
}

#[test]
fn the_token_is_for_the_hub_alone() {
    const TOKEN: &str = "hf_secretTokenOfTheTest";
    let hub = Hub::with_demo();
    hub.gate(DEMO, TOKEN);
    failed(&pull(&hub, &[DEMO]), 2, &["gated", "accept its terms at", "/dreamglass/demo", "HF_TOKEN"]);
    let other = hub.program(&["models", "pull", DEMO]).env("HF_TOKEN", "hf_other").output().unwrap();
    failed(&other, 2, &["this token has no access"]);
    assert!(!stderr(&other).contains("hf_other"));
    fs::write(hub.token_file(), format!("{TOKEN}\n")).unwrap();
    let output = hub.program(&["models", "pull", DEMO]).env("RUST_LOG", "trace").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains(TOKEN), "the token is shown");
    assert!(!hub.cached().iter().any(|path| path.contains(TOKEN)));
    let (cdn, own): (Vec<_>, Vec<_>) = hub.seen("").into_iter().partition(|seen| seen.is_cdn);
    assert!(!cdn.is_empty() && cdn.iter().all(|seen| seen.authorization.is_none()));
    assert!(own.iter().any(|seen| seen.authorization == Some(format!("Bearer {TOKEN}"))));
}

#[test]
fn hostile_listings_write_nothing() {
    let hub = Hub::with_demo();
    for (name, entry) in [
        ("a/up", json!({"rfilename": "../../../evil.safetensors", "size": 3, "blobId": git(b"abc")})),
        ("a/root", json!({"rfilename": "/tmp/evil.safetensors", "size": 3, "blobId": git(b"abc")})),
        ("a/back", json!({"rfilename": "..\\evil.safetensors", "size": 3, "blobId": git(b"abc")})),
        ("a/blob", json!({"rfilename": "x.safetensors", "size": 3, "blobId": "../../../../evil"})),
        ("a/lfs", json!({"rfilename": "x.safetensors", "lfs": {"sha256": "/etc/passwd", "size": 3}})),
        ("a/odd", json!({"rfilename": "x\u{1b}[2J.safetensors", "size": 3, "blobId": git(b"abc")})),
    ] {
        hub.publish(name, vec![], json!({"license": "mit"}));
        hub.list(name, entry);
        let output = pull(&hub, &[name]);
        failed(&output, 1, &["error:"]);
        assert!(!stderr(&output).contains('\u{1b}'), "control characters are shown");
    }
    hub.publish("a/huge", vec![], json!({"license": "mit"}));
    let huge = json!({"rfilename": "x.safetensors", "lfs": {"sha256": sha256(b""), "size": 1_u64 << 41}});
    hub.list("a/huge", huge);
    failed(&pull(&hub, &["a/huge"]), 1, &["are to come", "are free", "HF_HUB_CACHE"]);
    let index = "unet/diffusion_pytorch_model.safetensors.index.json";
    for shard in ["../../x.safetensors", "/etc/passwd", "none.safetensors"] {
        let map = json!({"weight_map": {"a": shard}}).to_string();
        hub.publish(
            "a/shards",
            vec![("unet/config.json".into(), b"{}".to_vec()), (index.into(), map.into_bytes())],
            json!({"license": "mit"}),
        );
        failed(&pull(&hub, &["a/shards"]), 2, &["vae/"]);
    }
    expect_nothing(&hub);
}

#[test]
fn pickles_are_refused_and_single_files_found() {
    let hub = Hub::new();
    let (mit, bin) = (json!({"license": "mit"}), "unet/diffusion_pytorch_model.bin".to_owned());
    hub.publish("a/pickled", vec![("unet/config.json".into(), vec![]), (bin, vec![0; 9])], mit.clone());
    failed(&pull(&hub, &["a/pickled"]), 2, &["pickles", "unet/diffusion_pytorch_model.bin", "refs/pr/1"]);
    let files = ["loras/a b.safetensors", "c.safetensors", "d.safetensors", "README.md"];
    let files = files.map(|name| (name.to_owned(), name.as_bytes().to_vec()));
    hub.publish("a/loras", files.to_vec(), mit.clone());
    failed(&pull(&hub, &["a/loras"]), 2, &["several files", "a/loras/c.safetensors", "d.safetensors"]);
    let path = pulled(&hub, &["a/loras/loras/a b.safetensors@refs/pr/1"]);
    assert!(path.ends_with("/loras/a b.safetensors"), "{path}");
    assert_eq!(fs::read(path).unwrap(), b"loras/a b.safetensors");
    assert!(hub.seen("c.safetensors").is_empty());
    assert!(hub.cached().contains(&"models--a--loras/refs/refs/pr/1".to_owned()));
    hub.publish("a/one", files[1..2].to_vec(), mit);
    // A mirror that lists names alone: size and checksum come with the headers.
    hub.strip("a/one");
    assert!(pulled(&hub, &["a/one"]).ends_with("/c.safetensors"));
    assert_eq!(
        hub.seen("one/resolve/fedcba9876543210fedcba9876543210fedcba98/c.safetensors")[0].method,
        "HEAD"
    );
}

#[test]
fn licences_are_shown_before_anything_is_fetched() {
    let hub = Hub::new();
    let file = || vec![("x.safetensors".to_owned(), vec![1; 30_000])];
    hub.publish("a/rail", file(), json!({"license": "creativeml-openrail-m"}));
    hub.publish("a/none", file(), json!(null));
    hub.publish("latent-consistency/lcm-lora-sdv1-5", file(), json!({"license": "openrail++"}));
    let shown = "creativeml-openrail-m";
    for (name, words) in [("a/rail", shown), ("a/none", "not named"), ("lcm-lora-sd15", "openrail++")] {
        failed(&pull(&hub, &[name]), 2, &["licence", words, "--accept-licence"]);
        assert!(hub.seen("x.safetensors").is_empty());
        expect_nothing(&hub);
    }
    let output = pull(&hub, &["a/rail", "--accept-licence"]);
    assert!(output.status.success() && stderr(&output).contains(shown), "{}", stderr(&output));
    // What is there was accepted.
    pulled(&hub, &["a/rail"]);
    let output = pull(&hub, &["lcm-lora-sd15", "--accept-license"]);
    assert!(output.status.success() && stderr(&output).contains("attachment A"), "{}", stderr(&output));
}

#[test]
fn what_was_pulled_is_listed_and_removed() {
    let hub = Hub::with_demo();
    let run = |arguments: &[&str]| hub.program(&[&["models"], arguments].concat()).output().unwrap();
    let listed = || -> Vec<serde_json::Value> {
        let output = run(&["list", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert!(listed().is_empty());
    pulled(&hub, &[DEMO]);
    hub.publish("a/lora", vec![("x.safetensors".into(), vec![1; 100])], json!({"license": "mit"}));
    pulled(&hub, &["a/lora"]);
    let rows = listed();
    assert_eq!(rows.len(), 2);
    let row = &rows[1];
    assert_eq!((row["name"].as_str(), row["kind"].as_str()), (Some(DEMO), Some("model")));
    assert_eq!((row["commit"].as_str(), &row["revisions"]), (Some(COMMIT), &json!(["main"])));
    assert!(row["bytes"].as_u64().unwrap() > 11_000_000, "{row}");
    let text = String::from_utf8(run(&["list"]).stdout).unwrap();
    assert!(text.contains(DEMO) && text.contains("main at fedcba987654"), "{text}");
    failed(&run(&["remove", DEMO]), 2, &["--yes"]);
    failed(&run(&["remove", "a/nothing", "--yes"]), 2, &["a/nothing", "not in the cache"]);
    // A link out of the cache is no way out of it.
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        std::os::unix::fs::symlink(outside.path(), hub.cache().join("models--b--link")).unwrap();
        failed(&run(&["remove", "b/link", "--yes"]), 1, &["link out of the cache"]);
        assert!(outside.path().join("kept").is_file());
        fs::remove_file(hub.cache().join("models--b--link")).unwrap();
    }
    let output = run(&["remove", DEMO, "--yes"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(listed().len(), 1);
    assert!(hub.cached().iter().all(|path| !path.contains("demo")), "{:?}", hub.cached());
}

#[test]
fn one_revision_is_removed_without_what_others_share() {
    let hub = Hub::new();
    hub.publish("a/lora", vec![("x.safetensors".into(), vec![1; 100])], json!({"license": "mit"}));
    let path = pulled(&hub, &["a/lora"]);
    // A second revision, as Python would leave it: one file shared, one its own.
    let root = hub.cache().join("models--a--lora");
    let other = "1".repeat(40);
    fs::create_dir_all(root.join("snapshots").join(&other)).unwrap();
    let shared = format!("../../blobs/{}", git(&[1; 100]));
    let own = git(b"own");
    fs::write(root.join("blobs").join(&own), "own").unwrap();
    #[cfg(unix)]
    for (name, target) in [("x.safetensors", shared), ("y.safetensors", format!("../../blobs/{own}"))] {
        std::os::unix::fs::symlink(target, root.join("snapshots").join(&other).join(name)).unwrap();
    }
    fs::write(root.join("refs/old"), &other).unwrap();
    let removed = hub.program(&["models", "remove", "a/lora@old", "--yes"]).output().unwrap();
    assert!(removed.status.success(), "{}", stderr(&removed));
    hub.check_cache();
    assert!(fs::read(&path).is_ok() && !root.join("blobs").join(&own).exists());
    assert!(!root.join("refs/old").exists() && root.join("refs/main").exists());
}
