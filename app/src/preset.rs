//! Parameters in TOML files: presets, and the configuration of `dreamglass live` and `dreamglass serve`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dreamglass_engine::Params;
use dreamglass_engine::params::Value;
use etcetera::{BaseStrategy, choose_base_strategy};
use serde::{Deserialize, Serialize};

use crate::failure::bad_input;

/// Longest file that is read: several prompts of the longest kind.
const MAX_BYTES: u64 = 1 << 20;

/// Longest name of a preset.
const MAX_NAME: usize = 64;

/// A file of parameters by name; what it does not name keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// One of the model's looks; a prompt among the parameters goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<String>,
    /// The parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// The configuration of live streams, in a window or served. Options of the command line go before it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Model folder.
    pub model: Option<PathBuf>,
    /// Adapter by index or part of its name.
    pub adapter: Option<String>,
    /// Where frames come from.
    pub source: Option<String>,
    /// Where pictures go besides the window.
    #[serde(default)]
    pub output: Vec<String>,
    /// A preset to start from.
    pub preset: Option<PathBuf>,
    /// One of the model's looks.
    pub look: Option<String>,
    /// Parameters that go before the preset's.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

impl Preset {
    /// All that `params` has changed from the defaults.
    pub fn of(params: &Params) -> Self {
        let parameters = params.changed().map(|(name, value)| (name.to_string(), value)).collect();
        Self { look: None, parameters }
    }
    /// Reads a preset: a file, or the name of a saved one.
    pub fn open(name: &Path) -> Result<Self> {
        if is_name(name) { Shelf::own()?.open(&name.to_string_lossy()) } else { read(name) }
    }
    /// Saves it under a name, in place of one that was there.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        Shelf::own()?.save(name, self)
    }
    /// Names of the saved presets.
    pub fn names() -> Vec<String> {
        Shelf::own().map(|shelf| shelf.names()).unwrap_or_default()
    }
}

/// A folder of presets by name. Names come from strangers and stay within the folder.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// The user's own.
    pub fn own() -> Result<Self> {
        let folder = folder().context("this system has no folder for configuration: no home directory")?;
        Ok(Self(folder.join("presets")))
    }
    /// Checks a name: up to 64 letters, digits, spaces, `-` and `_`.
    pub fn check(name: &str) -> Result<()> {
        let is_safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
        let is_blank = name.trim() != name || name.is_empty();
        if is_blank || name.len() > MAX_NAME || !name.chars().all(is_safe) {
            let start: String = name.chars().take(MAX_NAME).collect();
            let message = format!(
                "preset `{start}`: expected up to {MAX_NAME} letters, digits, spaces, - or _, or a file that ends in .toml"
            );
            return Err(bad_input(message));
        }
        Ok(())
    }
    fn path(&self, name: &str) -> Result<PathBuf> {
        Self::check(name)?;
        Ok(self.0.join(format!("{name}.toml")))
    }
    /// Reads the preset called `name`.
    pub fn open(&self, name: &str) -> Result<Preset> {
        read(&self.path(name)?)
    }
    /// Saves a preset under `name`, in place of one that was there.
    pub fn save(&self, name: &str, preset: &Preset) -> Result<PathBuf> {
        let path = self.path(name)?;
        let folder = &self.0;
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // Two may save at once, under one name even.
        let write = || -> Result<()> {
            let unfinished = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(unfinished.path(), toml::to_string_pretty(preset)?)?;
            unfinished.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
    /// Forgets the preset called `name`: false when there is none.
    pub fn delete(&self, name: &str) -> Result<bool> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot delete {}", path.display())),
        }
    }
    /// Names of the presets, sorted.
    pub fn names(&self) -> Vec<String> {
        let paths = fs::read_dir(&self.0).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        let tomls = paths.filter(|p| p.extension().is_some_and(|e| e == "toml"));
        let mut names: Vec<String> = tomls
            .filter_map(|p| Some(p.file_stem()?.to_string_lossy().into_owned()))
            .filter(|name| Self::check(name).is_ok())
            .collect();
        names.sort();
        names
    }
    #[cfg(test)]
    /// Presets in `folder`.
    pub fn at(folder: &Path) -> Self {
        Self(folder.into())
    }
}

/// Sets `parameters` in `params`; `place` says where they were found.
pub fn apply(params: &mut Params, parameters: &BTreeMap<String, Value>, place: &str) -> Result<()> {
    for (name, value) in parameters {
        params.set(name, value).with_context(|| place.to_string())?;
    }
    Ok(())
}

impl Configuration {
    /// Reads `path`, or the user's own file where there is one.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let own = || folder().map(|f| f.join("live.toml")).filter(|p| p.exists());
        match path.map(PathBuf::from).or_else(own) {
            Some(path) => read(&path),
            None => Ok(Self::default()),
        }
    }
}

/// Whether `name` is a word and no path.
fn is_name(name: &Path) -> bool {
    name.components().count() == 1 && name.extension().is_none_or(|e| e != "toml")
}

fn folder() -> Option<PathBuf> {
    choose_base_strategy().ok().map(|s| s.config_dir().join("dreamglass"))
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let shown = path.display();
    let bytes = fs::metadata(path).map_err(|e| bad_input(format!("{shown}: cannot be read: {e}")))?.len();
    if bytes > MAX_BYTES {
        return Err(bad_input(format!("{shown}: has {bytes} bytes, at most {MAX_BYTES} are read")));
    }
    let text = fs::read_to_string(path).map_err(|e| bad_input(format!("{shown}: cannot be read: {e}")))?;
    toml::from_str(&text).map_err(|e| bad_input(format!("{shown}: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_preset_says_what_was_changed() {
        let mut params = Params { strength: Some(0.7), mirror: true, ..Params::default() };
        params.prompt = "glass \"and\" light".into();
        let text = toml::to_string_pretty(&Preset::of(&params)).unwrap();
        let preset = Preset::open(file(&text).path()).unwrap();
        assert_eq!(preset.parameters.len(), 3, "{text}");
        let mut again = Params::default();
        apply(&mut again, &preset.parameters, "preset").unwrap();
        assert_eq!(again, params);
    }

    #[test]
    fn broken_files_are_named() {
        let message = |text: &str| {
            let file = file(text);
            let error = Preset::open(file.path())
                .and_then(|p| apply(&mut Params::default(), &p.parameters, "this preset"))
                .unwrap_err();
            format!("{error:#}")
        };
        assert!(message("[parameters]\nstrengthh = 1").contains("strengthh"));
        assert!(message("[parameters]\nstrength = 7").contains("0..=1"));
        assert!(message("colour = 1").contains("colour"));
        assert!(message("[[[").contains(".toml"));
        assert!(Preset::open(Path::new("../evil")).is_err());
        for name in ["", "..", "a/b", "a\u{0}", " ", &"x".repeat(65)] {
            assert!(Shelf::check(name).is_err(), "{name}");
        }
        assert!(Configuration::open(Some(Path::new("/nonexistent.toml"))).is_err());
    }
}
