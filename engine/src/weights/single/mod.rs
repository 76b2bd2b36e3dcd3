//! Files that hold a whole model, or an autoencoder alone, under other names than diffusers'.
//!
//! Most are written by the original Stable Diffusion code, "LDM" (github.com/CompVis/stable-diffusion, and
//! Stability-AI/stablediffusion for 2.x), as Civitai and most WebUIs use them: `model.diffusion_model.…`,
//! `first_stage_model.…` and `cond_stage_model.…` in one file, without configs and tokenizer. Tensors get diffusers'
//! names and configs are derived from their shapes, so that nothing past [`ModelFiles`](super::ModelFiles) knows where
//! they come from. TAESD's own files are read, too.

mod autoencoder;
mod part;
mod text;
mod tokenizer;
mod unet;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::EngineError;
use crate::weights::{Bytes, Checkpoint, files};
use part::Part;
pub(in crate::weights) use part::{Names, Place};

/// Tensors that no network has: the original code's noise schedule, averages and losses kept for training, and a scale
/// of CLIP.
const BYSTANDERS: [&str; 14] = [
    "loss.",
    "model_ema.",
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_",
    "logvar",
    "cond_stage_model.logit_scale",
    "cond_stage_model.model.logit_scale",
];
/// Where whole models keep their networks.
const UNET: &str = "model.diffusion_model.";
const AUTOENCODER: &str = "first_stage_model.";
const TEXT: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";
/// Beginnings of names that show what a file is instead.
const OTHERS: [(&str, &str); 7] = [
    ("conditioner.", "a checkpoint of SDXL"),
    ("model.diffusion_model.joint_blocks.", "a checkpoint of SD 3"),
    ("double_blocks.", "a checkpoint of Flux"),
    ("control_model.", "a ControlNet"),
    ("lora_unet_", "a LoRA, which is given beside a model"),
    ("lora_te_", "a LoRA, which is given beside a model"),
    ("text_model.", "a text encoder alone"),
];

/// A file, or TAESD's two, read as a folder of diffusers.
#[derive(Debug)]
pub struct SingleFile {
    path: String,
    components: BTreeMap<&'static str, Component>,
    configs: BTreeMap<&'static str, Vec<u8>>,
    strays: Vec<String>,
}

/// One network of a file.
#[derive(Debug)]
struct Component {
    config: Vec<u8>,
    checkpoint: Checkpoint,
}

impl SingleFile {
    /// Reads the names and shapes in the file at `path`, which is mapped; no tensor is read but one small one that
    /// tells the kinds of SD 2.x apart.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Checkpoint`] when it is damaged or holds something else.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let name = path.display().to_string();
        let error = |message: String| EngineError::Checkpoint { path: name.clone(), message };
        let is_pickle =
            path.extension().is_some_and(|end| ["ckpt", "pt", "pth", "bin"].iter().any(|p| end == *p));
        if is_pickle {
            return Err(error(
                "may be a pickled checkpoint, which could run any code: expected .safetensors".into(),
            ));
        }
        let bytes = files::map(path.into())?.ok_or_else(|| error("there is no such file".into()))?;
        Self::from_bytes(&name, bytes)
    }

    /// The same for the contents of a file, `path` being its name in messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(path: &str, bytes: Bytes) -> Result<Self, EngineError> {
        let error = |message: String| EngineError::Checkpoint { path: path.into(), message };
        let mut whole = Checkpoint::default();
        let metadata = whole.add_prefixed(path, bytes, "")?;
        if let Some((_, kind)) =
            OTHERS.iter().find(|(start, _)| whole.names().any(|name| name.starts_with(start)))
        {
            return Err(error(format!(
                "is {kind}, expected a checkpoint of SD 1.x or 2.x or an autoencoder"
            )));
        }
        let mut file = Self::empty(path);
        let prefixes = if whole.names().any(|name| name.starts_with(UNET)) {
            file.whole_model(&whole, &metadata).map_err(error)?;
            vec![UNET, AUTOENCODER, TEXT, OPEN_CLIP]
        } else {
            // Alone, with or without the prefix that it has in a whole model.
            let has_prefix = whole.names().any(|name| name.starts_with(AUTOENCODER));
            let prefix = if has_prefix { AUTOENCODER } else { "" };
            let names = autoencoder::describe(&Part::new(&whole, prefix)).map_err(error)?;
            file.add("vae", &whole, prefix, names);
            vec![prefix]
        };
        let is_stray = |name: &&str| {
            let is_bystander = BYSTANDERS.iter().any(|start| name.starts_with(start));
            !is_bystander && !prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        file.strays.extend(whole.names().filter(is_stray).map(String::from));
        file.strays.sort_unstable();
        Ok(file)
    }

    /// Reads TAESD's own two files, `encoder` and `decoder` being their names in messages and contents.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn taesd(encoder: (&str, Bytes), decoder: (&str, Bytes)) -> Result<Self, EngineError> {
        let path = encoder.0.to_string();
        let parts = [("encoder", encoder), ("decoder", decoder)];
        let mut checkpoint = Checkpoint::default();
        for (network, (path, bytes)) in parts {
            checkpoint.add_prefixed(path, bytes, &format!("{network}."))?;
        }
        let names = autoencoder::taesd(&Part::new(&checkpoint, ""));
        let names = names.map_err(|message| EngineError::Checkpoint { path: path.clone(), message })?;
        let mut file = Self::empty(&path);
        file.add("vae", &checkpoint, "", names);
        Ok(file)
    }

    fn empty(path: &str) -> Self {
        let (components, configs, strays) = Default::default();
        Self { path: path.into(), components, configs, strays }
    }

    /// The networks of a whole model, and what they need beside them.
    fn whole_model(&mut self, whole: &Checkpoint, metadata: &Metadata) -> Result<(), String> {
        let unet = Part::new(whole, UNET);
        let names = unet::describe(&unet)?;
        let prediction = unet::prediction(&unet, metadata)?;
        let is_turbo = self.path.to_lowercase().contains("turbo")
            || metadata.get("modelspec.title").is_some_and(|title| title.to_lowercase().contains("turbo"));
        let class = match (names.config["time_cond_proj_dim"].is_null(), is_turbo) {
            (false, _) => "LCMScheduler",
            (true, true) => "EulerDiscreteScheduler",
            (true, false) => "PNDMScheduler",
        };
        let scheduler = json!({"_class_name": class, "prediction_type": prediction});
        self.add("unet", whole, UNET, names);
        let autoencoder = Part::new(whole, AUTOENCODER);
        if !autoencoder.is_empty() {
            let names = autoencoder::describe(&autoencoder)?;
            self.add("vae", whole, AUTOENCODER, names);
        }
        for (prefix, describe, pad) in [
            (TEXT, text::clip as fn(&Part<'_>) -> Result<Names, String>, tokenizer::END),
            (OPEN_CLIP, text::open_clip, "!"),
        ] {
            let part = Part::new(whole, prefix);
            if !part.is_empty() {
                let names = describe(&part)?;
                self.add("text_encoder", whole, prefix, names);
                self.configs.insert("tokenizer/tokenizer_config.json", text::tokenizer_config(pad));
            }
        }
        self.configs.insert("scheduler/scheduler_config.json", scheduler.to_string().into_bytes());
        Ok(())
    }

    /// Adds the network that `prefix` holds in the file; names that `names` does not know are strays.
    fn add(&mut self, folder: &'static str, whole: &Checkpoint, prefix: &str, names: Names) {
        let (checkpoint, strays) = whole.renamed(prefix, &names);
        let is_known = |name: &String| BYSTANDERS.iter().any(|start| name[prefix.len()..].starts_with(start));
        self.strays.extend(strays.into_iter().filter(|name| !is_known(name)));
        self.components
            .insert(folder, Component { config: names.config.to_string().into_bytes(), checkpoint });
    }

    /// The file called `name` of the folder that this file stands for.
    pub(super) fn file(&self, name: &str) -> Option<Bytes> {
        let owned = |bytes: &[u8]| Some(Bytes::Owned(bytes.into()));
        if let Some(component) =
            name.strip_suffix("/config.json").and_then(|folder| self.components.get(folder))
        {
            return owned(&component.config);
        }
        // A file without a text encoder has no use for a tokenizer.
        let has_text = self.components.contains_key("text_encoder");
        match name {
            tokenizer::MERGES_FILE if has_text => Some(Bytes::Static(tokenizer::MERGES.as_bytes())),
            tokenizer::VOCABULARY_FILE if has_text => owned(tokenizer::vocabulary().to_string().as_bytes()),
            _ => owned(self.configs.get(name)?),
        }
    }
    /// The weights of one network.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] where the file has none.
    pub(super) fn checkpoint(&self, folder: &str) -> Result<Checkpoint, EngineError> {
        Ok(self.components.get(folder).ok_or_else(|| self.lacks(folder))?.checkpoint.clone())
    }
    /// The error that the file has nothing for `folder`.
    pub(super) fn lacks(&self, folder: &str) -> EngineError {
        let part = match folder {
            "unet" => "UNet (model.diffusion_model.…)",
            // An autoencoder may be a folder itself.
            "vae" | "." => "autoencoder (first_stage_model.…), which may be given beside it",
            "text_encoder" | "tokenizer" => "text encoder (cond_stage_model.…)",
            other => other,
        };
        EngineError::Checkpoint { path: self.path.clone(), message: format!("holds no {part}") }
    }
    /// The file; of TAESD's, the encoder's.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// How a file of the folder is shown in messages.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{} (as {name})", self.path)
    }
    /// Tensors that no network has a place for, by their names in the file, sorted.
    pub(super) fn strays(&self) -> &[String] {
        &self.strays
    }
}

/// What a file says about itself.
pub(super) type Metadata = std::collections::HashMap<String, String>;

/// A list of JSON numbers.
fn numbers(values: impl IntoIterator<Item = usize>) -> Value {
    values.into_iter().collect()
}
