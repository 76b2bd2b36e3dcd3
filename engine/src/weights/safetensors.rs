//! Safetensors checkpoints, one file or shards, read tensor by tensor.

mod renamed;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use dreamglass_kernels::{KernelError, Plan, WeightSource};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::error::EngineError;
use crate::weights::lora::Delta;
use crate::weights::{Bytes, ModelFiles, Stamp};

/// Stems that diffusers and transformers save weights under.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// Halves that are converted at a time.
const AT_ONCE: usize = 1024;

/// The tensors of one component (`unet`, `vae`, `text_encoder`).
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    shards: Vec<Bytes>,
    tensors: HashMap<String, TensorInfo>,
    /// What is added to tensors when they are read.
    deltas: HashMap<String, Vec<Delta>>,
    /// How the file calls modules that have another name here.
    origins: HashMap<String, String>,
}

/// Tensors of one type in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The type, such as `f16`.
    pub dtype: String,
    /// How many tensors.
    pub tensors: usize,
    /// Their values.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where a tensor is, and what it is like.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    shard: usize,
    dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Checkpoint {
    /// Opens the weights in `folder` of a model: full precision before `.fp16`, a single file
    /// before shards. Headers are checked against the file's length; no tensor is read.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when there is none or a file is damaged, [`EngineError::Io`].
    pub fn open(files: &ModelFiles, folder: &str) -> Result<Self, EngineError> {
        if let ModelFiles::Single(file) = files {
            return file.checkpoint(folder);
        }
        for variant in ["", ".fp16"] {
            for stem in STEMS {
                let name = format!("{folder}/{stem}{variant}.safetensors");
                if let Some(bytes) = files.open(&name)? {
                    let mut checkpoint = Self::default();
                    checkpoint.add(&files.path(&name), bytes)?;
                    return Ok(checkpoint);
                }
                for index in [
                    format!("{folder}/{stem}.safetensors.index{variant}.json"),
                    format!("{folder}/{stem}{variant}.safetensors.index.json"),
                ] {
                    if let Some(bytes) = files.open(&index)? {
                        return Self::open_shards(files, folder, &index, &bytes);
                    }
                }
            }
        }
        let path = files.path(folder);
        let message = "has no diffusion_pytorch_model.safetensors or model.safetensors".into();
        Err(EngineError::Checkpoint { path, message })
    }

    /// A checkpoint of one file, `path` being its name in messages.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when the file is damaged.
    pub fn from_bytes(path: &str, bytes: Bytes) -> Result<Self, EngineError> {
        let mut checkpoint = Self::default();
        checkpoint.add(path, bytes)?;
        Ok(checkpoint)
    }

    fn open_shards(files: &ModelFiles, folder: &str, index: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let error = |message: String| EngineError::Checkpoint { path: files.path(index), message };
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| error(format!("is not JSON: {e}")))?;
        let map = json["weight_map"].as_object().ok_or_else(|| error("has no `weight_map`".into()))?;
        let names: BTreeSet<&str> = map.values().filter_map(|v| v.as_str()).collect();
        let mut checkpoint = Self::default();
        for shard in names {
            if shard.contains(['/', '\\']) || shard.starts_with("..") {
                return Err(error(format!("names the shard `{shard}` outside its folder")));
            }
            let name = format!("{folder}/{shard}");
            checkpoint.add(&files.path(&name), files.require(&name)?)?;
        }
        Ok(checkpoint)
    }

    /// Adds the tensors of one file.
    fn add(&mut self, path: &str, bytes: Bytes) -> Result<(), EngineError> {
        self.add_prefixed(path, bytes, "").map(drop)
    }

    /// Adds the tensors of one file with `prefix` before their names. Returns what the file says about itself.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub(super) fn add_prefixed(
        &mut self,
        path: &str,
        bytes: Bytes,
        prefix: &str,
    ) -> Result<HashMap<String, String>, EngineError> {
        let error = |message| EngineError::Checkpoint { path: path.into(), message };
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| error(describe(&e, &bytes)))?;
        let start = header + 8;
        for (name, info) in metadata.tensors() {
            let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
            let entry =
                TensorInfo { shard: self.shards.len(), dtype: info.dtype, shape: info.shape.clone(), bytes };
            self.tensors.insert(format!("{prefix}{name}"), entry);
        }
        self.shards.push(bytes);
        Ok(metadata.metadata().clone().unwrap_or_default())
    }

    /// The tensors' names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
    /// The tensor called `name`, if there is one.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }
    /// What is stored, by the type it is stored in.
    pub fn stored(&self) -> Vec<Stored> {
        let mut sums: BTreeMap<String, Stored> = BTreeMap::new();
        for info in self.tensors.values() {
            let dtype = format!("{:?}", info.dtype).to_lowercase();
            let sum = sums.entry(dtype.clone()).or_insert(Stored { dtype, tensors: 0, values: 0, bytes: 0 });
            sum.tensors += 1;
            sum.values += info.shape.iter().map(|&d| d as u64).product::<u64>();
            sum.bytes += info.bytes.len() as u64;
        }
        sums.into_values().collect()
    }
    /// All values of the tensor called `name`, in the shape that it has.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(crate) fn all(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        let shape = self.info(name).map(|info| info.shape.iter().map(|&d| d as u32).collect::<Vec<u32>>());
        self.tensor(name, &shape.unwrap_or_default())
    }
    /// Adds `delta` to the tensor called `name` whenever it is read; it must have its shape.
    pub(crate) fn add_delta(&mut self, name: String, delta: Delta) {
        self.deltas.entry(name).or_default().push(delta);
    }
    /// The same tensors with other weights of the LoRAs in them; those that `weights` does not reach keep theirs.
    pub(crate) fn with_lora_weights(&self, weights: &[f32]) -> Self {
        let mut other = self.clone();
        for delta in other.deltas.values_mut().flatten() {
            delta.weight = weights.get(delta.lora).copied().unwrap_or(delta.weight);
        }
        other
    }
    /// Whether the tensor called `name` has the same values in `other`, which differs in its LoRAs' weights only.
    pub(crate) fn is_like(&self, other: &Self, name: &str) -> bool {
        let of = |checkpoint: &Self| -> Vec<f32> {
            checkpoint.deltas.get(name).into_iter().flatten().map(|delta| delta.weight).collect()
        };
        of(self) == of(other)
    }
    /// What tells its files from others; none where some of it is not from a file, or LoRAs are in it.
    pub(crate) fn stamps(&self) -> Option<Vec<&Stamp>> {
        self.shards.iter().map(Bytes::stamp).collect::<Option<Vec<_>>>().filter(|_| self.deltas.is_empty())
    }
    /// The index of the next LoRA, where one network alone is counted.
    pub(crate) fn next_lora(&self) -> usize {
        self.deltas.values().flatten().map(|delta| delta.lora + 1).max().unwrap_or(0)
    }
    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The named tensor, row-major, as f32. F32, F16 and BF16 checkpoints are read; a trailing
    /// `1,1` of the shape may be missing on either side.
    ///
    /// # Errors
    /// [`EngineError::MissingWeight`], [`EngineError::WeightShape`], [`EngineError::WeightValue`],
    /// [`EngineError::Checkpoint`] for another storage type.
    pub fn tensor(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, EngineError> {
        let mut values = Vec::new();
        let row = shape.iter().skip(1).map(|&d| d as usize).product();
        self.append(name, shape, 0..shape.first().map_or(1, |&d| d as usize), 0..row, &mut values)?;
        Ok(values)
    }

    /// Rows of axis 0 of [`Self::tensor`], and of each some values past axis 0, behind what `values` holds.
    fn append(
        &self,
        name: &str,
        shape: &[u32],
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let entry = self.entry(name, shape)?;
        let start = values.len();
        let unsupported = || {
            let message =
                format!("weights stored as {:?} are not supported, only F32, F16 and BF16", entry.dtype);
            EngineError::Checkpoint { path: name.into(), message }
        };
        let row: usize = shape.iter().skip(1).map(|&d| d as usize).product();
        self.runs(entry, shape, &rows, &columns)
            .try_for_each(|bytes| append_f32(entry.dtype, bytes, values))
            .ok_or_else(unsupported)?;
        for delta in self.deltas.get(name).into_iter().flatten() {
            delta.add(rows.clone(), columns.clone(), &mut values[start..]);
        }
        if are_finite(&values[start..]) {
            return Ok(());
        }
        let Some(ix) = values[start..].iter().position(|v| !v.is_finite()) else { return Ok(()) };
        let width = columns.len().max(1);
        let index = (rows.start + ix / width) * row + columns.start + ix % width;
        Err(EngineError::WeightValue { name: name.into(), index, value: values[start + ix] })
    }

    /// The bytes of rows of axis 0 of a tensor, and of each some values past axis 0, run by run.
    fn runs(
        &self,
        entry: &TensorInfo,
        shape: &[u32],
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> impl Iterator<Item = &[u8]> {
        let bytes = &self.shards[entry.shard][entry.bytes.clone()];
        let row: usize = shape.iter().skip(1).map(|&d| d as usize).product();
        let size = bytes.len() / (row * shape.first().map_or(1, |&d| d as usize)).max(1);
        let is_whole = columns.len() == row;
        let (runs, len) = if is_whole { (1, rows.len() * row) } else { (rows.len(), columns.len()) };
        let first = rows.start * row + columns.start;
        (0..runs).map(move |run| &bytes[(first + run * row) * size..][..len * size])
    }

    /// Checks that every weight of `plan` is there in the right shape, without reading any.
    ///
    /// # Errors
    /// [`EngineError::MissingWeight`], [`EngineError::WeightShape`].
    pub fn check(&self, plan: &Plan) -> Result<(), EngineError> {
        for param in plan.weights.iter().flat_map(|weight| weight.values.params()) {
            for (name, outer) in &param.parts {
                let mut shape = vec![*outer];
                shape.extend(&param.inner);
                self.entry(name, &shape)?;
            }
        }
        Ok(())
    }

    /// The tensors that none of `plans` reads, sorted.
    pub(crate) fn unused_by<'a>(&self, plans: impl IntoIterator<Item = &'a Plan>) -> Vec<String> {
        let weights = plans.into_iter().flat_map(|plan| &plan.weights);
        let params = weights.flat_map(|weight| weight.values.params());
        let used: BTreeSet<&str> =
            params.flat_map(|param| param.parts.iter().map(|(name, _)| name.as_str())).collect();
        let unused: BTreeSet<&str> = self.names().filter(|name| !used.contains(name)).collect();
        unused.into_iter().map(String::from).collect()
    }

    fn entry(&self, name: &str, shape: &[u32]) -> Result<&TensorInfo, EngineError> {
        let entry = self.tensors.get(name);
        let entry = entry.ok_or_else(|| EngineError::MissingWeight { name: self.with_origin(name) })?;
        let expected: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
        if without_kernel(&entry.shape) != without_kernel(&expected) {
            let (name, expected) = (name.into(), shape.to_vec());
            return Err(EngineError::WeightShape { name, expected, got: entry.shape.clone() });
        }
        Ok(entry)
    }
}

impl WeightSource for Checkpoint {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        self.tensor(name, shape).map_err(|error| weight_error(name, error))
    }
    fn read_block(
        &self,
        name: &str,
        shape: &[u32],
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        self.append(name, shape, rows, columns, values).map_err(|error| weight_error(name, error))
    }
    fn halves(&self, name: &str, shape: &[u32]) -> Option<&[f16]> {
        let entry = self.entry(name, shape).ok().filter(|entry| entry.dtype == Dtype::F16)?;
        if self.deltas.contains_key(name) || cfg!(target_endian = "big") {
            return None;
        }
        // Files hold tensors at even places, most of them.
        bytemuck::try_cast_slice(&self.shards[entry.shard][entry.bytes.clone()]).ok()
    }
}

fn weight_error(name: &str, error: EngineError) -> KernelError {
    let message = match error {
        EngineError::WeightValue { index, value, .. } => {
            format!("value {index} is {value}, not a finite number")
        }
        EngineError::MissingWeight { .. } => "the checkpoint has no such weight".into(),
        other => other.to_string(),
    };
    KernelError::Weight { name: name.into(), message }
}

/// A 1×1 convolution `[O,I,1,1]` is the matrix `[O,I]`.
fn without_kernel(shape: &[usize]) -> &[usize] {
    match shape {
        [_, _, 1, 1] => &shape[..2],
        _ => shape,
    }
}

/// Whether no value is infinite or NaN; several are looked at side by side.
fn are_finite(values: &[f32]) -> bool {
    values.chunks(AT_ONCE).all(|values| values.iter().fold(true, |finite, v| finite & v.is_finite()))
}

/// Appends little-endian values, wherever their bytes begin; none of another storage type.
fn append_f32(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) -> Option<()> {
    let start = values.len();
    match dtype {
        Dtype::F32 => {
            values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        Dtype::F16 => {
            values.resize(start + bytes.len() / 2, 0.0);
            // Files hold tensors at even places, most of them.
            if let (Ok(halves), true) = (bytemuck::try_cast_slice(bytes), cfg!(target_endian = "little")) {
                <[f16]>::convert_to_f32_slice(halves, &mut values[start..]);
                return Some(());
            }
            let mut halves = [f16::ZERO; AT_ONCE];
            for (bytes, values) in bytes.chunks(2 * AT_ONCE).zip(values[start..].chunks_mut(AT_ONCE)) {
                let halves = &mut halves[..values.len()];
                for (half, b) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                    *half = f16::from_le_bytes([b[0], b[1]]);
                }
                halves.convert_to_f32_slice(values);
            }
        }
        Dtype::BF16 => {
            // The upper half of an f32.
            values.extend(bytes.chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])));
        }
        _ => return None,
    }
    Some(())
}

/// What a damaged file's error means, with the numbers that show it.
fn describe(error: &SafeTensorError, bytes: &[u8]) -> String {
    let length = bytes.len();
    let claimed = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    match error {
        SafeTensorError::HeaderTooSmall => {
            format!("is not a safetensors file: it has {length} bytes, fewer than the 8 of a header length")
        }
        SafeTensorError::HeaderTooLarge => {
            format!(
                "claims a header of {claimed} bytes, more than 100 MB: damaged, or not a safetensors file"
            )
        }
        SafeTensorError::InvalidHeaderLength => {
            format!("is truncated or damaged: it claims a header of {claimed} bytes and has {length} in all")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("is truncated: its header describes more or other data than its {length} bytes")
        }
        SafeTensorError::InvalidOffset(name) => {
            format!("is damaged: the offsets of tensor `{name}` are out of order")
        }
        SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow => {
            "is damaged: a tensor's shape does not fit its bytes".into()
        }
        other => format!("is not a safetensors file: {other}"),
    }
}

#[cfg(test)]
mod tests;
