//! A safetensors file of reference tensors.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use dreamglass_engine::frame::{nchw_from_nhwc, nhwc_from_nchw};
use safetensors::{Dtype, SafeTensors};

use crate::failure::bad_input;

/// The tensors and metadata of a reference file.
pub struct Reference {
    tensors: HashMap<String, Stored>,
    metadata: HashMap<String, String>,
}

/// One tensor in its stored order, `[N,C,H,W]` for pictures and latents.
pub struct Stored {
    name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, finite.
    pub values: Vec<f32>,
}

impl Reference {
    /// Reads the file. Every tensor must be finite numbers.
    pub fn open(path: &Path) -> Result<Self> {
        read(path).with_context(|| path.display().to_string())
    }
    /// The tensor called `name`, if it is there.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }
    /// The tensor called `name`, which another one makes necessary.
    pub fn require(&self, name: &str) -> Result<&Stored> {
        self.get(name).ok_or_else(|| bad_input(format!("the reference has no tensor `{name}`")))
    }
    /// Metadata `key` as text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }
    /// Metadata `key` as a number.
    pub fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        let text =
            self.text(key).ok_or_else(|| bad_input(format!("the reference's metadata has no `{key}`")))?;
        text.parse().map_err(|_| bad_input(format!("metadata `{key}`: expected a number, got `{text}`")))
    }
}

impl Stored {
    /// Pictures or latents in the engine's order `[N,H,W,C]`, and their `[N,H,W]`.
    pub fn nhwc(&self) -> Result<(Vec<f32>, [u32; 3])> {
        let [n, c, h, w] = self.shape[..] else { return Err(self.error("[N,C,H,W]")) };
        Ok((nhwc_from_nchw(&self.values, [n, c, h, w]), [n, h, w].map(|d| d as u32)))
    }
    /// Values in the engine's order put into this tensor's.
    pub fn like(&self, nhwc: &[f32]) -> Result<Vec<f32>> {
        let [n, c, h, w] = self.shape[..] else { return Err(self.error("[N,C,H,W]")) };
        Ok(nchw_from_nhwc(nhwc, [n, h, w, c]))
    }
    /// `n` values, one of them standing for all.
    pub fn per_row(&self, n: u32) -> Result<Vec<f32>> {
        match self.values[..] {
            [value] => Ok(vec![value; n as usize]),
            _ if self.values.len() == n as usize => Ok(self.values.clone()),
            _ => Err(self.error(&format!("one value or {n}"))),
        }
    }
    /// Whole numbers from 0.
    pub fn ids(&self) -> Result<Vec<u32>> {
        // f32 holds whole numbers exactly up to 2²⁴, far past any vocabulary.
        let is_id = |v: f32| v >= 0.0 && v.fract() == 0.0 && v < 16_777_216.0;
        if !self.values.iter().all(|&v| is_id(v)) {
            return Err(self.error("token ids"));
        }
        Ok(self.values.iter().map(|&v| v as u32).collect())
    }
    /// An error that says what was expected of this tensor.
    pub fn error(&self, expected: &str) -> anyhow::Error {
        bad_input(format!("{}: expected {expected}, got shape {:?}", self.name, self.shape))
    }
}

fn read(path: &Path) -> Result<Reference> {
    let bytes = fs::read(path).map_err(|e| bad_input(format!("cannot be read: {e}")))?;
    let broken = |e| bad_input(format!("is not an intact safetensors file: {e}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut tensors = HashMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(broken)?.tensors() {
        let values = floats(view.dtype(), view.data())
            .ok_or_else(|| bad_input(format!("{name}: {:?} tensors are not supported", view.dtype())))?;
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(bad_input(format!(
                "{name}: value {index} is {}, not a finite number",
                values[index]
            )));
        }
        let shape = view.shape().to_vec();
        tensors.insert(name.clone(), Stored { name, shape, values });
    }
    Ok(Reference { tensors, metadata })
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&word| convert(word)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn stored_types_become_floats() {
        let bytes: Vec<u8> = [-1i64, 49_407].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(floats(Dtype::I64, &bytes).unwrap(), [-1.0, 49_407.0]);
        assert!(floats(Dtype::BOOL, &[1]).is_none());
        let stored = |values: Vec<f32>| Stored { name: "x".into(), shape: vec![values.len()], values };
        assert_eq!(stored(vec![3.0]).per_row(2).unwrap(), [3.0, 3.0]);
        assert!(stored(vec![1.0, 2.0]).per_row(3).is_err());
        assert!(stored(vec![-1.0]).ids().is_err());
        assert!(stored(vec![1.0]).nhwc().unwrap_err().to_string().contains("[N,C,H,W]"));
    }
}
