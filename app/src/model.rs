//! Which model is used, and the looks that it names.

use std::path::Path;

use anyhow::{Context, Result};
use dreamglass_engine::{ModelFiles, Params};
use serde::Deserialize;

use crate::failure::bad_input;
use crate::repository;

/// Name of the model inside the program.
pub const EMBEDDED_NAME: &str = "demo";

/// File of a model that names its looks; ours, diffusers ignores it.
const LOOKS_FILE: &str = "looks.json";

/// The files of `models/demo` as they were when the program was built.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The looks of a model and the settings that suit it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looks {
    /// The look that is used where none is asked for.
    pub default: Option<String>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Strength.
    pub strength: Option<f64>,
    /// The looks in the order they are listed in.
    #[serde(default)]
    pub looks: Vec<Look>,
}

/// A prompt with a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// What `--look` calls it.
    pub name: String,
    /// The prompt behind it.
    pub prompt: String,
}

/// The files of the model called `model`: a folder, a file that stands for one, one that was pulled, or the embedded
/// one.
pub fn files(model: &Path) -> Result<ModelFiles> {
    if model == Path::new(EMBEDDED_NAME) {
        if !EMBEDDED.iter().any(|(name, _)| *name == "unet/config.json") {
            return Err(bad_input(
                "this program was built without models/demo: give a model folder with --model",
            ));
        }
        return Ok(ModelFiles::Embedded(EMBEDDED));
    }
    if !model.exists() {
        if let Some(path) = model.to_str().map(repository::locate).transpose()?.flatten() {
            return Ok(ModelFiles::at(&path)?);
        }
        return Err(bad_input(format!(
            "model {}: expected a folder in diffusers' layout (unet, vae, text_encoder, tokenizer, scheduler) or a \
             .safetensors file of a whole model, found nothing there",
            model.display()
        )));
    }
    Ok(ModelFiles::at(model)?)
}

impl Looks {
    /// The looks that a model brings along; none where it has no such file.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        let Some(bytes) = files.open(LOOKS_FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|e| bad_input(e.to_string()))
            .with_context(|| files.path(LOOKS_FILE))
    }
    /// The same, with one where the model names none: for measuring, which needs a prompt but no certain one.
    pub fn or_any(mut self) -> Self {
        if self.looks.is_empty() {
            self.looks.push(Look { name: "any".into(), prompt: "an oil painting".into() });
        }
        self
    }
    /// Puts in what the model says where `params` leave it open.
    pub fn complete(&self, params: &mut Params) {
        params.steps = params.steps.or(self.steps);
        params.strength = params.strength.or(self.strength);
    }
    /// The prompt of the look called `name`, or of the default one.
    pub fn prompt(&self, name: Option<&str>) -> Result<&str> {
        let names = || self.looks.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
        let look = match name.or(self.default.as_deref()) {
            Some(wanted) => self.looks.iter().find(|l| l.name.eq_ignore_ascii_case(wanted)),
            None => self.looks.first(),
        };
        look.map(|l| l.prompt.as_str()).ok_or_else(|| match (name, self.looks.is_empty()) {
            (Some(name), true) => {
                bad_input(format!("look `{name}`: this model names no looks, use --prompt"))
            }
            (Some(name), false) => bad_input(format!("there is no look `{name}`; there are {}", names())),
            (None, _) => bad_input("say what the result shows with --prompt: this model has no default look"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn looks_are_found_by_name() {
        let text = r#"{"default": "ink", "looks": [{"name": "oil", "prompt": "an oil painting"},
                       {"name": "ink", "prompt": "an ink drawing"}]}"#;
        let looks: Looks = serde_json::from_str(text).unwrap();
        assert_eq!(looks.prompt(Some("Oil")).unwrap(), "an oil painting");
        assert_eq!(looks.prompt(None).unwrap(), "an ink drawing");
        assert!(looks.prompt(Some("neon")).unwrap_err().to_string().contains("oil, ink"));
        assert!(Looks::default().prompt(None).unwrap_err().to_string().contains("--prompt"));
    }
}
