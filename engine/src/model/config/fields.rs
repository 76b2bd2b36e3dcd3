//! Reading a JSON config field by field, with errors that name the field and its value.

use serde_json::{Map, Value};

use crate::error::EngineError;

/// The fields of one JSON object. A field that is `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    file: String,
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Parses the bytes of `file`.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when they are not a JSON object.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let error = |message| EngineError::Checkpoint { path: file.into(), message };
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self { file: file.into(), prefix: String::new(), map }),
            Ok(_) => Err(error("is not a JSON object".into())),
            Err(e) => Err(error(format!("is not JSON: {e}"))),
        }
    }
    /// The object in `field`, where there is one.
    pub fn section(&self, field: &str) -> Option<Self> {
        let map = self.map.get(field)?.as_object()?.clone();
        Some(Self { file: self.file.clone(), prefix: format!("{}{field}.", self.prefix), map })
    }
    /// The value of `field`, unless absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|v| !v.is_null())
    }
    /// Whether `field` is there and `null`.
    pub fn is_null(&self, field: &str) -> bool {
        self.map.get(field).is_some_and(Value::is_null)
    }
    /// The error that `field` is not as `expected`.
    pub fn error(&self, field: &str, expected: impl Into<String>) -> EngineError {
        let value = self.map.get(field).map_or_else(|| "absent".into(), |v| short(&v.to_string()));
        let field = format!("{}{field}", self.prefix);
        EngineError::Config { file: self.file.clone(), field, value, expected: expected.into() }
    }
    /// A whole number in `1..=max`.
    pub fn count(&self, field: &str, default: Option<u32>, max: u32) -> Result<u32, EngineError> {
        match (self.get(field), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value
                .and_then(|v| whole(v, max))
                .ok_or_else(|| self.error(field, format!("a whole number in 1..={max}"))),
        }
    }
    /// `n` whole numbers in `1..=max`, given as a list or as one number for all.
    pub fn counts(&self, field: &str, n: usize, default: u32, max: u32) -> Result<Vec<u32>, EngineError> {
        let error = || self.error(field, format!("a whole number in 1..={max}, or {n} of them"));
        match self.get(field) {
            None => Ok(vec![default; n]),
            Some(Value::Array(list)) if list.len() == n => {
                list.iter().map(|v| whole(v, max)).collect::<Option<_>>().ok_or_else(error)
            }
            Some(value) => Ok(vec![whole(value, max).ok_or_else(error)?; n]),
        }
    }
    /// A list of 1 to `longest` whole numbers in `1..=max`.
    pub fn list(&self, field: &str, longest: usize, max: u32) -> Result<Vec<u32>, EngineError> {
        self.get(field)
            .and_then(Value::as_array)
            .filter(|list| (1..=longest).contains(&list.len()))
            .and_then(|list| list.iter().map(|v| whole(v, max)).collect())
            .ok_or_else(|| self.error(field, format!("a list of 1..={longest} whole numbers in 1..={max}")))
    }
    /// A finite number.
    pub fn number(&self, field: &str, default: f64) -> Result<f64, EngineError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|v| v.is_finite()).ok_or_else(|| self.error(field, "a number")),
        }
    }
    /// A finite number above zero.
    pub fn positive(&self, field: &str, default: f64) -> Result<f64, EngineError> {
        let value = self.number(field, default)?;
        if value > 0.0 { Ok(value) } else { Err(self.error(field, "a number above 0")) }
    }
    /// A switch.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool, EngineError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.error(field, "true or false")),
        }
    }
    /// One of `accepted`, by name; the result is its index.
    pub fn choice(&self, field: &str, default: &str, accepted: &[&str]) -> Result<usize, EngineError> {
        let value = self.get(field).map_or(Some(default), Value::as_str);
        accepted
            .iter()
            .position(|a| Some(*a) == value)
            .ok_or_else(|| self.error(field, format!("one of {}", accepted.join(", "))))
    }
    /// A list of names, each one of `accepted`; the result is their indices.
    pub fn choices(&self, field: &str, accepted: &[&str]) -> Result<Vec<usize>, EngineError> {
        let position = |v: &Value| accepted.iter().position(|a| v.as_str() == Some(*a));
        self.get(field)
            .and_then(Value::as_array)
            .and_then(|list| list.iter().map(position).collect())
            .ok_or_else(|| self.error(field, format!("a list of {}", accepted.join(", "))))
    }
    /// Refuses any value but `accepted` (absent counts as accepted).
    pub fn only(&self, field: &str, accepted: impl Into<Value>) -> Result<(), EngineError> {
        let accepted = accepted.into();
        match self.get(field) {
            None => Ok(()),
            Some(v) if *v == accepted || (v.is_number() && v.as_f64() == accepted.as_f64()) => Ok(()),
            Some(_) => Err(self.error(field, format!("{accepted}, nothing else is supported"))),
        }
    }
    /// Refuses any value at all.
    pub fn absent(&self, field: &str) -> Result<(), EngineError> {
        match self.get(field) {
            None => Ok(()),
            Some(_) => Err(self.error(field, "null, nothing else is supported")),
        }
    }
    /// Refuses a value that is neither absent nor all false.
    pub fn off(&self, field: &str) -> Result<(), EngineError> {
        let off = |v: &Value| *v == Value::Bool(false);
        match self.get(field) {
            None => Ok(()),
            Some(Value::Array(list)) if list.iter().all(off) => Ok(()),
            Some(v) if off(v) => Ok(()),
            Some(_) => Err(self.error(field, "false, nothing else is supported")),
        }
    }
}

fn whole(value: &Value, max: u32) -> Option<u32> {
    value.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| (1..=max).contains(v))
}

/// At most 80 characters of a value for a message.
fn short(value: &str) -> String {
    match value.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.into(),
    }
}
