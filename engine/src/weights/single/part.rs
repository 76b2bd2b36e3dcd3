//! The tensors under one prefix of a file, and how they are called elsewhere.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::weights::Checkpoint;

/// Names without their common prefix, and shapes.
pub(in crate::weights) struct Part<'a> {
    checkpoint: &'a Checkpoint,
    prefix: String,
    shapes: BTreeMap<&'a str, &'a [usize]>,
}

impl<'a> Part<'a> {
    /// The tensors of `checkpoint` whose names begin with `prefix`.
    pub fn new(checkpoint: &'a Checkpoint, prefix: &str) -> Self {
        let stripped = checkpoint.names().filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
        let shapes = stripped
            .filter_map(|(name, rest)| Some((rest, checkpoint.info(name)?.shape.as_slice())))
            .collect();
        Self { checkpoint, prefix: prefix.into(), shapes }
    }
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }
    /// Whether a tensor is called `module`, or belongs to it.
    pub fn has(&self, module: &str) -> bool {
        let mut names = self.shapes.range(module..).map(|(name, _)| *name);
        // Other modules may sort between a name and its members: `a`, `a-b`, `a.b`.
        self.shapes.contains_key(module)
            || names
                .by_ref()
                .take_while(|name| name.starts_with(module))
                .any(|name| name[module.len()..].starts_with('.'))
    }
    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.shapes.keys().copied()
    }
    /// Length of one axis of a tensor.
    ///
    /// # Errors
    /// That there is no such tensor, or that it has fewer axes.
    pub fn length(&self, name: &str, axis: usize) -> Result<usize, String> {
        let shape = self
            .shapes
            .get(name)
            .ok_or_else(|| format!("has no tensor `{}{name}`, from which its config follows", self.prefix))?;
        shape.get(axis).copied().ok_or_else(|| {
            format!(
                "tensor `{}{name}` has the shape {shape:?}, expected {} axes or more",
                self.prefix,
                axis + 1
            )
        })
    }
    /// The values of a small tensor.
    ///
    /// # Errors
    /// That there is none, or that it cannot be read.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        self.checkpoint.all(&format!("{}{name}", self.prefix)).map_err(|e| e.to_string())
    }
}

/// What a part is in diffusers' words.
pub(in crate::weights) struct Names {
    /// The content of its `config.json`.
    pub config: Value,
    /// Modules, or whole names, in the file and as diffusers calls them; none for those that are known and not read.
    modules: HashMap<String, Option<String>>,
}

impl Names {
    pub fn new() -> Self {
        Self { config: Value::Null, modules: HashMap::new() }
    }
    /// Adds a module of the file under diffusers' name for it.
    pub fn add(&mut self, module: impl Into<String>, diffusers: impl Into<String>) {
        self.modules.insert(module.into(), Some(diffusers.into()));
    }
    /// Adds a module that nothing reads.
    pub fn skip(&mut self, module: impl Into<String>) {
        self.modules.insert(module.into(), None);
    }
    /// Adds the modules inside `base`.
    pub fn add_inside(&mut self, base: &str, diffusers: &str, modules: &[(&str, &str)]) {
        for (module, name) in modules {
            self.add(format!("{base}.{module}"), format!("{diffusers}.{name}"));
        }
    }
    /// Where a tensor goes.
    pub fn place(&self, name: &str) -> Place {
        let ends = name.rmatch_indices('.').map(|(at, _)| at);
        let found = std::iter::once(name.len())
            .chain(ends)
            .find_map(|end| Some((self.modules.get(&name[..end])?, &name[end..])));
        match found {
            Some((Some(module), rest)) => Place::Tensor(format!("{module}{rest}")),
            Some((None, _)) => Place::Unread,
            None => Place::Unknown,
        }
    }
    /// The other way round: diffusers' modules, and how the file calls them.
    pub fn origins(&self, prefix: &str) -> HashMap<String, String> {
        let named = self.modules.iter().filter_map(|(module, name)| Some((module, name.clone()?)));
        named.map(|(module, name)| (name, format!("{prefix}{module}"))).collect()
    }
}

/// Where a tensor of a file goes.
pub(in crate::weights) enum Place {
    /// It is the one that diffusers calls so.
    Tensor(String),
    /// It is known, and not read.
    Unread,
    /// The model has no place for it.
    Unknown,
}
