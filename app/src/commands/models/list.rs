//! `dreamglass models list`: what is in the cache and can be used.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::commands::print;
use crate::repository::{Cache, Environment, Name, SHORT_NAMES, Snapshot};

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One commit of a repository.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    short_name: Option<&'static str>,
    /// `model`, `autoencoder` or `files`: single models and LoRAs.
    kind: &'static str,
    commit: String,
    /// Branches and tags that were at it when they were pulled.
    revisions: Vec<String>,
    bytes: u64,
    licence: Option<String>,
    path: String,
}

/// Lists it.
pub fn run(arguments: &ListArgs) -> Result<ExitCode> {
    let cache = Cache::new(Environment::read()?.cache);
    let (mut rows, mut others) = (Vec::new(), 0);
    for repository in cache.repositories()? {
        let refs = repository.refs()?;
        let before = rows.len();
        for snapshot in repository.snapshots()? {
            let revisions = refs.iter().filter(|(_, commit)| *commit == snapshot.commit);
            rows.extend(row(&snapshot, revisions.map(|(name, _)| name.clone()).collect())?);
        }
        others += usize::from(rows.len() == before);
    }
    if arguments.json {
        print(&format!("{:#}\n", serde_json::to_value(&rows)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = cache.folder().display();
    match (rows.is_empty(), others) {
        (true, _) => {
            eprintln!("there is no model in {place}: `dreamglass models pull --help` says how to get one")
        }
        (false, 0) => eprintln!("{place}:"),
        (false, _) => eprintln!("{place}, where {others} other repositories are not for dreamglass:"),
    }
    print(&rows.iter().map(Row::in_text).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// What `snapshot` is; none where it is of no use here.
fn row(snapshot: &Snapshot, revisions: Vec<String>) -> Result<Option<Row>> {
    let files = snapshot.files()?;
    let Some(kind) = kind(&files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>()) else {
        return Ok(None);
    };
    let sizes: BTreeMap<&Path, u64> = files.iter().map(|file| (file.blob.as_path(), file.size)).collect();
    let known = SHORT_NAMES.iter().find(|short| short.repository == snapshot.repository);
    Ok(Some(Row {
        name: snapshot.repository.clone(),
        short_name: known.map(|known| known.short),
        kind,
        commit: snapshot.commit.clone(),
        revisions,
        bytes: sizes.values().sum(),
        licence: snapshot.licence(),
        path: path(snapshot).display().to_string(),
    }))
}

fn path(snapshot: &Snapshot) -> std::path::PathBuf {
    let name = Name { repository: snapshot.repository.clone(), revision: None, file: None, short: None };
    snapshot.path(&name).unwrap_or_else(|_| snapshot.folder.clone())
}

/// What a snapshot with such files is.
fn kind(files: &[&str]) -> Option<&'static str> {
    let has = |path: &str| files.contains(&path);
    let weights = |folder: &str| {
        files.iter().any(|file| {
            file.strip_prefix(folder)
                .is_some_and(|rest| rest.ends_with(".safetensors") && !rest.contains('/'))
        })
    };
    match () {
        () if has("unet/config.json") && weights("unet/") => Some("model"),
        () if has("unet/config.json") => None,
        () if has("taesd_encoder.safetensors") => Some("autoencoder"),
        // Language models have such a config, too, and other files.
        () if has("config.json") => has("diffusion_pytorch_model.safetensors").then_some("autoencoder"),
        () if weights("") => Some("files"),
        () => None,
    }
}

impl Row {
    fn in_text(&self) -> String {
        let Self { name, kind, commit, .. } = self;
        let short = self.short_name.map(|short| format!(" ({short})")).unwrap_or_default();
        let revisions =
            if self.revisions.is_empty() { "no branch".into() } else { self.revisions.join(", ") };
        let licence = self.licence.as_deref().unwrap_or("not named");
        format!(
            "{name}{short}\n   {kind}, {}, {revisions} at {}, licence {licence}\n",
            BinaryBytes(self.bytes),
            &commit[..12]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_use_is_told_apart() {
        assert_eq!(kind(&["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]), Some("model"));
        assert_eq!(kind(&["unet/config.json", "unet/diffusion_pytorch_model.bin"]), None);
        assert_eq!(kind(&["config.json", "diffusion_pytorch_model.safetensors"]), Some("autoencoder"));
        assert_eq!(kind(&["config.json", "model.safetensors", "tokenizer.json"]), None);
        assert_eq!(kind(&["pytorch_lora_weights.safetensors"]), Some("files"));
        assert_eq!(kind(&["README.md"]), None);
    }
}
