//! Which files of a repository are needed.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;

use super::listing::{Entry, Listing};
use super::name::{Name, check_path};
use crate::failure::bad_input;

/// Which of a model's weights are wanted, where it has them twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Variant {
    /// Half precision where there is some: half the size, and all that f16 needs
    #[default]
    Auto,
    /// Half precision, or nothing
    Fp16,
    /// Full precision: for training or comparing
    Full,
}

/// Folders of a model that hold weights.
const NETWORKS: [&str; 3] = ["unet", "vae", "text_encoder"];
/// Stems that diffusers and transformers save weights under.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Small files of a model; those that are not there are not needed.
const CONFIGS: [&str; 10] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "looks.json",
];
/// TAESD's own two files.
const TAESD: [&str; 2] = ["taesd_encoder.safetensors", "taesd_decoder.safetensors"];
/// What goes with every file: the card and the licence.
const PAPERS: [&str; 6] = ["README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE.TXT", "NOTICE"];
/// Ends of files that are pickled, or could be.
const PICKLES: [&str; 6] = [".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack"];

/// Files to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that are known to be needed.
    pub files: Vec<Entry>,
    /// Those of them that name further files.
    pub indices: Vec<String>,
}

impl Selection {
    /// What is needed of `listing` for `name`.
    ///
    /// # Errors
    /// Naming what is missing or only there as pickles, or the files that one must be chosen from.
    pub fn new(listing: &Listing, name: &Name, variant: Variant) -> Result<Self> {
        let mut chosen = Self::default();
        let papers = PAPERS.iter().filter_map(|path| listing.find(path));
        if let Some(file) = &name.file {
            chosen.add(listing.find(file).ok_or_else(|| no_such_file(listing, name, file))?);
        } else if listing.find("unet/config.json").is_some() {
            CONFIGS.iter().filter_map(|path| listing.find(path)).for_each(|entry| chosen.add(entry));
            for network in NETWORKS {
                chosen.network(listing, name, &format!("{network}/"), variant)?;
            }
        } else if listing.find("config.json").is_some() && weights(listing, "", "").is_some() {
            listing.find("config.json").into_iter().for_each(|entry| chosen.add(entry));
            chosen.network(listing, name, "", variant)?;
        } else if let [Some(encoder), Some(decoder)] = TAESD.map(|path| listing.find(path)) {
            [encoder, decoder].into_iter().for_each(|entry| chosen.add(entry));
        } else {
            chosen.add(only(listing, name)?);
        }
        papers.for_each(|entry| chosen.add(entry));
        chosen.files.iter().try_for_each(Entry::check)?;
        Ok(chosen)
    }

    fn add(&mut self, entry: &Entry) {
        if !self.files.contains(entry) {
            self.files.push(entry.clone());
        }
    }

    /// The weights in `folder`, which ends with a slash where it is not the root.
    fn network(&mut self, listing: &Listing, name: &Name, folder: &str, variant: Variant) -> Result<()> {
        let of = |half: &str| weights(listing, folder, half);
        let found = match variant {
            Variant::Auto => of(".fp16").or_else(|| of("")),
            Variant::Fp16 => of(".fp16"),
            Variant::Full => of(""),
        };
        let Some(entry) = found else { return Err(no_weights(listing, name, folder, variant)) };
        if entry.path.ends_with(".json") {
            self.indices.push(entry.path.clone());
        }
        self.add(entry);
        Ok(())
    }

    /// Adds the shards that the index at `path` names, which is one of [`Self::indices`].
    ///
    /// # Errors
    /// Where it is no index, or names a file that is not there or elsewhere.
    pub fn add_shards(&mut self, listing: &Listing, path: &str, index: &[u8]) -> Result<()> {
        let json: serde_json::Value =
            serde_json::from_slice(index).with_context(|| format!("{path}: expected JSON"))?;
        let map =
            json["weight_map"].as_object().with_context(|| format!("{path}: expected a `weight_map`"))?;
        let shards: BTreeSet<&str> = map.values().filter_map(|shard| shard.as_str()).collect();
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for shard in shards {
            let is_beside =
                !shard.contains('/') && shard.ends_with(".safetensors") && check_path(shard).is_ok();
            if !is_beside {
                return Err(anyhow!(
                    "{path} names the shard {shard:?}, expected a .safetensors file beside it"
                ));
            }
            let file = format!("{folder}{shard}");
            let entry = listing.find(&file);
            self.add(entry.with_context(|| {
                format!("{path} names the shard `{shard}`, which is not in the repository")
            })?);
        }
        Ok(())
    }
}

/// The file of weights in `folder`, or the index of its shards; `half` is `.fp16` or nothing.
fn weights<'a>(listing: &'a Listing, folder: &str, half: &str) -> Option<&'a Entry> {
    STEMS.iter().find_map(|stem| {
        let names = [
            format!("{folder}{stem}{half}.safetensors"),
            format!("{folder}{stem}.safetensors.index{half}.json"),
            format!("{folder}{stem}{half}.safetensors.index.json"),
        ];
        names.iter().find_map(|name| listing.find(name))
    })
}

/// The one file of weights in the root.
fn only<'a>(listing: &'a Listing, name: &Name) -> Result<&'a Entry> {
    let in_root = |entry: &&Entry| !entry.path.contains('/') && entry.path.ends_with(".safetensors");
    let found: Vec<&Entry> = listing.files.iter().filter(in_root).collect();
    match found[..] {
        [entry] => Ok(entry),
        [] => Err(no_weights(listing, name, "", Variant::Auto)),
        _ => Err(bad_input(format!(
            "{name} has several files: say which, as in `{}/{}`; there are {}",
            name.repository,
            found[0].path,
            names(found.iter().map(|entry| entry.path.as_str()))
        ))),
    }
}

/// At most a dozen names.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(12);
    let shown = all.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn no_such_file(listing: &Listing, name: &Name, file: &str) -> anyhow::Error {
    let others =
        listing.files.iter().map(|entry| entry.path.as_str()).filter(|path| path.ends_with(".safetensors"));
    let others = names(others);
    let others = if others.is_empty() { "no .safetensors files".into() } else { others };
    let (repository, revision) = (&name.repository, name.revision());
    bad_input(format!("{repository}@{revision} has no file `{file}`; it has {others}"))
}

fn no_weights(listing: &Listing, name: &Name, folder: &str, variant: Variant) -> anyhow::Error {
    let place = if folder.is_empty() { "".into() } else { format!(" in {folder}") };
    let here = |entry: &&Entry| entry.path.starts_with(folder);
    let ends = |entry: &&Entry, ends: &[&str]| ends.iter().any(|end| entry.path.ends_with(end));
    let pickle = listing.files.iter().filter(here).find(|entry| ends(entry, &PICKLES));
    let is_other =
        variant != Variant::Auto && ["", ".fp16"].iter().any(|half| weights(listing, folder, half).is_some());
    let message = match pickle {
        _ if is_other => {
            format!("{name} has its weights{place} in another variant only: leave --variant out")
        }
        Some(pickle) => format!(
            "{name} has its weights{place} only as pickles (`{}`), which can run any code when they are read, and are never \
             fetched: look for safetensors in another revision (the hub's converter offers some as refs/pr/1 and so on), \
             or in another repository",
            pickle.path
        ),
        None => format!(
            "{name} has no weights{place} that can be used: expected safetensors in diffusers' layout"
        ),
    };
    bad_input(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let entry = |path: &&str| Entry { path: path.to_string(), size: None, checksum: None };
        Listing {
            commit: "0".repeat(40),
            files: paths.iter().map(entry).collect(),
            licence: None,
            licence_link: None,
        }
    }

    fn chosen(paths: &[&str], name: &str, variant: Variant) -> Result<Vec<String>, String> {
        let selection = Selection::new(&listing(paths), &name.parse().unwrap(), variant);
        let mut files: Vec<String> =
            selection.map_err(|e| e.to_string())?.files.into_iter().map(|entry| entry.path).collect();
        files.sort();
        Ok(files)
    }

    const TURBO: [&str; 16] = [
        "README.md",
        "LICENSE.md",
        "model_index.json",
        "sd_turbo.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "image.jpg",
    ];

    #[test]
    fn a_model_is_its_configs_and_one_set_of_weights() {
        let files = chosen(&TURBO, "a/b", Variant::Auto).unwrap();
        assert_eq!(files.len(), 12, "{files:?}");
        let weights: Vec<_> = files.iter().filter(|file| file.ends_with(".safetensors")).collect();
        assert!(weights.len() == 3 && weights.iter().all(|file| file.contains(".fp16.")), "{weights:?}");
        let error = chosen(&TURBO, "a/b", Variant::Full).unwrap_err();
        assert!(error.contains("vae/") && error.contains("--variant"), "{error}");
        let file = chosen(&TURBO, "a/b/sd_turbo.safetensors", Variant::Auto).unwrap();
        assert_eq!(file, ["LICENSE.md", "README.md", "sd_turbo.safetensors"]);
        let error = chosen(&TURBO, "a/b/other.safetensors", Variant::Auto).unwrap_err();
        assert!(error.contains("other.safetensors") && error.contains("sd_turbo.safetensors"), "{error}");
    }

    #[test]
    fn autoencoders_and_loras_are_found() {
        let both =
            ["config.json", "diffusion_pytorch_model.safetensors", TAESD[0], TAESD[1], "taesd_encoder.pth"];
        let diffusers = ["config.json", "diffusion_pytorch_model.safetensors"];
        assert_eq!(chosen(&both, "taesd", Variant::Auto).unwrap(), diffusers);
        assert_eq!(
            chosen(&[TAESD[0], TAESD[1], "x.pth"], "a/b", Variant::Auto).unwrap(),
            [TAESD[1], TAESD[0]]
        );
        let lora = ["README.md", "pytorch_lora_weights.safetensors"];
        assert_eq!(chosen(&lora, "a/b", Variant::Auto).unwrap(), lora);
        let error = chosen(&["x.safetensors", "y.safetensors"], "a/b", Variant::Auto).unwrap_err();
        assert!(error.contains("a/b/x.safetensors") && error.contains("y.safetensors"), "{error}");
    }

    #[test]
    fn pickles_are_refused() {
        let files =
            ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin", "vae/config.json"];
        let error = chosen(&files, "a/b", Variant::Auto).unwrap_err();
        assert!(error.contains("pickles") && error.contains("unet/diffusion_pytorch_model.bin"), "{error}");
        assert!(chosen(&["model.ckpt"], "a/b", Variant::Auto).unwrap_err().contains("model.ckpt"));
        assert!(chosen(&["a.txt"], "a/b", Variant::Auto).unwrap_err().contains("no weights"));
    }

    #[test]
    fn shards_are_those_of_the_index() {
        let (index, first) =
            ("unet/diffusion_pytorch_model.safetensors.index.json", "unet/x-1-of-2.safetensors");
        let mut files = TURBO.to_vec();
        files.retain(|file| !file.starts_with("unet/diffusion"));
        files.extend([index, first]);
        let listing = listing(&files);
        let mut selection = Selection::new(&listing, &"a/b".parse().unwrap(), Variant::Auto).unwrap();
        assert_eq!(selection.indices, [index]);
        let map = |shard: &str| format!(r#"{{"weight_map": {{"a": "{shard}", "b": "{shard}"}}}}"#);
        selection.add_shards(&listing, index, map("x-1-of-2.safetensors").as_bytes()).unwrap();
        assert!(selection.files.iter().any(|entry| entry.path == first));
        for shard in ["x-2-of-2.safetensors", "../vae/x.safetensors", "x.bin", "/x.safetensors"] {
            assert!(selection.add_shards(&listing, index, map(shard).as_bytes()).is_err(), "{shard}");
        }
        assert!(selection.add_shards(&listing, index, b"[]").is_err());
    }
}
