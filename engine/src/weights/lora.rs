//! LoRAs: files of low-rank changes, fused into the weights of a checkpoint when they are read.
//!
//! `W' = W + weight·(alpha/rank)·(B·A)` with A `[rank, in, …]` and B `[out, rank]` (arXiv 2106.09685). Three layouts of
//! names are read: kohya's (`lora_unet_….lora_down.weight`), diffusers' and peft's
//! (`unet.….lora_A.weight`, `unet.….lora.down.weight`), and diffusers' before 0.17
//! (`unet.….processor.to_q_lora.down.weight`).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use crate::error::EngineError;
use crate::weights::safetensors::{Checkpoint, TensorInfo};
use crate::weights::{Bytes, files};

/// A LoRA to load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFile {
    /// A safetensors file.
    pub path: PathBuf,
    /// How much of it: 1 as it was trained, 0 nothing, negative values take away.
    pub weight: f32,
}

impl LoraFile {
    /// What people call it: the file's name without its extension.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The change of one weight.
#[derive(Debug, Clone)]
pub(crate) struct Delta {
    /// Which LoRA's it is, in the order in which they were fused.
    pub(crate) lora: usize,
    /// How much of it is added.
    pub(crate) weight: f32,
    /// B, `[out, rank]`, times alpha/rank.
    up: Arc<Vec<f32>>,
    /// A, `[rank, in·taps]`.
    down: Arc<Vec<f32>>,
    rank: usize,
}

impl Delta {
    /// Adds the change to `values`: rows and columns of the weight.
    ///
    /// # Panics
    /// Where they are not of the weight that the change was checked against.
    pub(crate) fn add(&self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) {
        if self.weight == 0.0 || values.is_empty() {
            return;
        }
        let shape = (rows.len(), columns.len());
        let up = matrix(&self.up, self.up.len() / self.rank);
        let down = matrix(&self.down, self.rank);
        let mut values =
            ArrayViewMut2::from_shape(shape, values).expect("as many values as rows and columns");
        general_mat_mul(self.weight, &up.slice(s![rows, ..]), &down.slice(s![.., columns]), 1.0, &mut values);
    }
}

/// `values` as a matrix of `rows`.
fn matrix(values: &[f32], rows: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, values.len() / rows), values).expect("factors are whole matrices")
}

/// The networks that LoRAs change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The UNet.
    Unet,
    /// The text encoder.
    Text,
}

impl Target {
    fn label(self) -> &'static str {
        if self == Self::Unet { "UNet" } else { "text encoder" }
    }
}

/// What a tensor of a LoRA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Down,
    Up,
    Alpha,
}

/// Ends of keys, and what they say.
const ENDS: [(&str, Role); 13] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".alpha", Role::Alpha),
];
/// Beginnings of keys, and which network they name; those without one are the UNet's.
const BEGINNINGS: [(&str, Target); 6] = [
    ("lora_unet_", Target::Unet),
    ("lora_te_", Target::Text),
    ("base_model.model.", Target::Unet),
    ("unet.", Target::Unet),
    ("text_encoder.", Target::Text),
    ("", Target::Unet),
];
/// Largest rank that is read; published ones have 4 to 256.
const MAX_RANK: usize = 4096;

/// The tensors of one changed weight.
#[derive(Default)]
struct Parts {
    down: Option<String>,
    up: Option<String>,
    alpha: Option<String>,
}

/// Fuses the LoRA of `file` into the checkpoints of networks as the one with index `lora`. Nothing is changed where it
/// is refused.
///
/// # Errors
/// [`EngineError::Io`]; [`EngineError::Checkpoint`] naming the file and the key that is damaged, of another kind, or
/// matches no weight.
pub(crate) fn fuse(
    file: &LoraFile,
    lora: usize,
    targets: &mut [(Target, &mut Checkpoint)],
) -> Result<(), EngineError> {
    let path = file.path.display().to_string();
    let error = |message: String| EngineError::Checkpoint { path: path.clone(), message };
    if !file.weight.is_finite() {
        return Err(error(format!("cannot be used with the weight {}, expected a number", file.weight)));
    }
    let bytes: Bytes =
        files::map(file.path.clone())?.ok_or_else(|| error("there is no such LoRA file".into()))?;
    let factors = Checkpoint::from_bytes(&path, bytes)?;
    let mut deltas = Vec::new();
    for ((network, weight), parts) in changes(&factors, targets).map_err(error)? {
        let Some((_, target)) = targets.iter().find(|(other, _)| *other == network) else { continue };
        let (up, down, rank) = delta(&factors, &parts, &weight, target).map_err(error)?;
        let delta = Delta { lora, weight: file.weight, up: Arc::new(up), down: Arc::new(down), rank };
        deltas.push((network, weight, delta));
    }
    for (network, weight, delta) in deltas {
        if let Some((_, target)) = targets.iter_mut().find(|(other, _)| *other == network) {
            target.add_delta(weight, delta);
        }
    }
    Ok(())
}

/// The tensors of every weight that a LoRA changes.
fn changes(
    lora: &Checkpoint,
    targets: &[(Target, &mut Checkpoint)],
) -> Result<BTreeMap<(Target, String), Parts>, String> {
    let names: HashMap<(Target, String), String> =
        targets.iter().flat_map(|(network, checkpoint)| names_of(*network, checkpoint)).collect();
    let mut changes: BTreeMap<(Target, String), Parts> = BTreeMap::new();
    let mut keys: Vec<&str> = lora.names().collect();
    // Of several that are wrong, the same one is named every time.
    keys.sort_unstable();
    for key in keys {
        let (network, module, role) = parse(key).map_err(|what| format!("key `{key}`: {what}"))?;
        let weight = names
            .get(&(network, module))
            .ok_or_else(|| format!("key `{key}` matches no weight of this model's {}", network.label()))?;
        let parts = changes.entry((network, weight.clone())).or_default();
        let slot = match role {
            Role::Down => &mut parts.down,
            Role::Up => &mut parts.up,
            Role::Alpha => &mut parts.alpha,
        };
        if let Some(other) = slot.replace(key.to_string()) {
            return Err(format!("keys `{other}` and `{key}` both change `{weight}`"));
        }
    }
    if changes.is_empty() {
        return Err("holds no tensors, expected a LoRA".into());
    }
    Ok(changes)
}

impl Checkpoint {
    /// The rank of each change, where this is a LoRA; none where it is something else.
    pub fn lora_ranks(&self) -> Vec<usize> {
        let is_down = |name: &&str| parse(name).is_ok_and(|(_, _, role)| role == Role::Down);
        self.names().filter(is_down).filter_map(|name| self.info(name)?.shape.first().copied()).collect()
    }
}

/// How modules of a checkpoint are written in LoRAs, with their weights' names: with dots, and with underscores as
/// kohya's trainers write them.
fn names_of(network: Target, checkpoint: &Checkpoint) -> Vec<((Target, String), String)> {
    let weights = checkpoint.names().filter_map(|name| Some((name, name.strip_suffix(".weight")?)));
    let spelled = weights.flat_map(|(name, module)| {
        // Checkpoints of transformers since 5 leave out what LoRAs say.
        let is_short = network == Target::Text && !module.starts_with("text_model.");
        let module = if is_short { format!("text_model.{module}") } else { module.to_string() };
        [module.replace('.', "_"), module].map(|module| ((network, module), name.to_string()))
    });
    spelled.collect()
}

/// Which network a key belongs to, its module as [`names_of`] spells it, and what it is.
fn parse(key: &str) -> Result<(Target, String, Role), String> {
    let kinds =
        [("dora_scale", "a DoRA"), ("hada_w", "a LoHa"), ("lokr_w", "a LoKr"), ("lora_mid", "a CP LoRA")];
    if let Some((_, kind)) = kinds.iter().find(|(word, _)| key.contains(word)) {
        return Err(format!("is one of {kind}, expected a LoRA"));
    }
    let (rest, role) = ENDS.iter().find_map(|(end, role)| Some((key.strip_suffix(end)?, *role))).ok_or(
        "is none of a LoRA, which end in `.lora_down.weight`, `.lora_A.weight`, `.alpha` and the like",
    )?;
    let (module, network) = BEGINNINGS
        .iter()
        .find_map(|(beginning, network)| Some((rest.strip_prefix(beginning)?, *network)))
        .ok_or("names no network")?;
    let module = module.replace(".processor.", ".");
    let module = if module.ends_with(".to_out") { module + ".0" } else { module };
    Ok((network, module, role))
}

/// Length of axis 0 of a tensor, that of its rows, and its shape.
fn shape<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<(usize, usize, &'a [usize]), String> {
    let TensorInfo { shape, .. } = checkpoint.info(name).ok_or_else(|| format!("no tensor `{name}`"))?;
    let (first, inner) = shape.split_first().ok_or_else(|| format!("`{name}` is a single number"))?;
    Ok((*first, inner.iter().product(), shape))
}

/// Reads and checks the change of `weight`: B times alpha/rank, A, and the rank.
fn delta(
    lora: &Checkpoint,
    parts: &Parts,
    weight: &str,
    target: &Checkpoint,
) -> Result<(Vec<f32>, Vec<f32>, usize), String> {
    let Parts { down: Some(down), up: Some(up), alpha } = parts else {
        let found = [&parts.down, &parts.up, &parts.alpha].into_iter().flatten().next();
        let found = found.map_or("", String::as_str);
        return Err(format!("key `{found}`: `{weight}` needs two factors, down and up, and one is missing"));
    };
    let (outer, row, of_weight) = shape(target, weight)?;
    let (rank, down_row, of_down) = shape(lora, down)?;
    let (up_outer, up_row, of_up) = shape(lora, up)?;
    if rank == 0 || rank > MAX_RANK || down_row != row || up_outer != outer || up_row != rank {
        return Err(format!(
            "keys `{down}` {of_down:?} and `{up}` {of_up:?} do not make a change of `{weight}` {of_weight:?}: expected \
             [rank, {row}] and [{outer}, rank] with a rank of 1 to {MAX_RANK}"
        ));
    }
    let read = |name: &str| lora.all(name).map_err(|e| e.to_string());
    let alpha = match alpha {
        Some(key) => match read(key)?[..] {
            [alpha] => alpha,
            ref other => return Err(format!("key `{key}` holds {} values, expected one", other.len())),
        },
        None => rank as f32,
    };
    let scale = alpha / rank as f32;
    let up = read(up)?.into_iter().map(|value| value * scale).collect();
    Ok((up, read(down)?, rank))
}

#[cfg(test)]
mod tests;
