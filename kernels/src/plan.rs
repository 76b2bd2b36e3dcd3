//! Plans: what to dispatch, on which tensors and weights, as data.
//!
//! A [`PlanBuilder`] is filled by the ops; [`PlanBuilder::finish`] freezes it into a [`Plan`]
//! with a memory plan. Neither touches a device: a plan can be dumped as text ([`Plan`] is
//! `Display`) and tested without one. [`crate::exec::Executable`] replays it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::choice::{self, Bound, Candidate, Choices};
use crate::error::{KernelError, shape_error};
use crate::memory::{self, Memory};
use crate::target::Target;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Values, Weight};

/// A value that a template is rendered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Define {
    /// A number, such as a tile size.
    U32(u32),
    /// A name, such as a storage type or an activation.
    Str(&'static str),
    /// A switch.
    Bool(bool),
}

/// One rendering of one kernel file: the file's stem and what it is rendered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// Stem of the file in `wgsl/`.
    pub stem: &'static str,
    /// Values by name, in the order that the op gives them.
    pub defines: Vec<(&'static str, Define)>,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stem)?;
        for (name, value) in &self.defines {
            match value {
                Define::U32(v) => write!(f, " {name}={v}")?,
                Define::Str(v) => write!(f, " {name}={v}")?,
                Define::Bool(true) => write!(f, " {name}")?,
                Define::Bool(false) => {}
            }
        }
        Ok(())
    }
}

/// What a binding of a dispatch refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A tensor of the plan.
    Tensor(u32),
    /// A weight, by index into [`Plan::weights`].
    Weight(u32),
}

/// One dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Where in the model it comes from, such as `down_blocks.0.resnets.1/conv1`.
    pub label: String,
    /// The kernel.
    pub variant: Variant,
    /// `(name of the WGSL variable, operand, written)`; names are matched against the shader.
    pub bindings: Vec<(&'static str, Operand, bool)>,
    /// The `var<immediate>` block as words (u32 or the bits of f32), at most 32 of them.
    pub immediates: Vec<u32>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Floating-point operations of the useful work (a multiply-add counts two).
    pub flops: u64,
}

/// How a tensor gets its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Given from outside the plan under this name, and kept between replays.
    Input(String),
    /// Written by the plan, kept after the replay under this name.
    Output(String),
    /// Lives between its producer and its last reader.
    Slot,
    /// Zeros when the plan is prepared; who counts in it leaves zeros behind.
    Counters,
}

/// A tensor as the plan knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Shape.
    pub shape: Shape,
    /// Storage type.
    pub dtype: DType,
    /// Where its bytes are.
    pub storage: Storage,
}

impl Value {
    /// Bytes of storage.
    pub fn bytes(&self) -> u64 {
        self.shape.bytes(self.dtype)
    }
}

/// Records ops in execution order.
#[derive(Debug)]
pub struct PlanBuilder {
    target: Target,
    values: Vec<Value>,
    weights: Vec<Weight>,
    dispatches: Vec<Dispatch>,
    choices: BTreeMap<usize, Choices>,
    scope: Vec<String>,
    /// Statistics of tensors, by id, where their producer leaves them.
    statistics: HashMap<u32, Tensor>,
    /// Counters that workgroups of one dispatch at a time share.
    counters: Option<Tensor>,
}

impl PlanBuilder {
    /// An empty plan for `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            values: Vec::new(),
            weights: Vec::new(),
            dispatches: Vec::new(),
            choices: BTreeMap::new(),
            scope: Vec::new(),
            statistics: HashMap::new(),
            counters: None,
        }
    }
    /// What the plan is recorded for.
    pub fn target(&self) -> Target {
        self.target
    }
    /// Enters a labelled part of the model; labels of dispatches start with the open scopes.
    pub fn push_scope(&mut self, name: impl Into<String>) {
        self.scope.push(name.into());
    }
    /// Leaves the innermost scope.
    pub fn pop_scope(&mut self) {
        self.scope.pop();
    }
    /// A tensor that is given from outside under `name`.
    pub fn input(&mut self, name: &str, shape: Shape, dtype: DType) -> Tensor {
        self.value(shape, dtype, Storage::Input(name.into()))
    }
    /// Keeps `tensor` after the replay under `name`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the tensor is an input or an output already, or the name is taken.
    pub fn output(&mut self, name: &str, tensor: Tensor) -> Result<(), KernelError> {
        if self
            .values
            .iter()
            .any(|v| matches!(&v.storage, Storage::Output(n) | Storage::Input(n) if n == name))
        {
            return Err(shape_error("output", "a name that is not taken", name));
        }
        let value = &mut self.values[tensor.id as usize];
        if value.storage != Storage::Slot {
            return Err(shape_error("output", "a tensor made by this plan", tensor));
        }
        value.storage = Storage::Output(name.into());
        Ok(())
    }
    /// A new intermediate tensor, for ops to write.
    pub fn slot(&mut self, shape: Shape, dtype: DType) -> Tensor {
        self.value(shape, dtype, Storage::Slot)
    }
    /// At least `count` counters, which each dispatch finds and leaves at zero.
    pub(crate) fn counters(&mut self, count: u32) -> Tensor {
        let counters =
            self.counters.unwrap_or_else(|| self.value(Shape::vector(1, 0), DType::U32, Storage::Counters));
        self.counters = Some(counters);
        let shape = &mut self.values[counters.id as usize].shape;
        shape.c = shape.c.max(count);
        counters
    }
    /// Notes that the producer of `tensor` leaves its mean and squared deviations in `statistics`.
    pub(crate) fn set_statistics(&mut self, tensor: Tensor, statistics: Tensor) {
        self.statistics.insert(tensor.id, statistics);
    }
    /// Statistics of `tensor`, where its producer leaves them.
    pub(crate) fn statistics_of(&self, tensor: Tensor) -> Option<Tensor> {
        self.statistics.get(&tensor.id).copied()
    }
    fn value(&mut self, shape: Shape, dtype: DType, storage: Storage) -> Tensor {
        let id = self.values.len() as u32;
        self.values.push(Value { shape, dtype, storage });
        Tensor { id, shape, dtype }
    }
    /// Adds a weight, or finds it when it was added before with this layout and type.
    pub(crate) fn weight(&mut self, values: impl Into<Values>, layout: Layout, dtype: DType) -> Operand {
        let weight = Weight { values: values.into(), is_gated: false, layout, dtype };
        let ix = self.weights.iter().position(|w| *w == weight).unwrap_or_else(|| {
            self.weights.push(weight);
            self.weights.len() - 1
        });
        Operand::Weight(ix as u32)
    }
    /// Records a dispatch after checking it against the target's limits.
    ///
    /// # Errors
    /// [`KernelError::Limit`] when a binding or the grid is too large.
    pub(crate) fn dispatch(&mut self, mut dispatch: Dispatch) -> Result<(), KernelError> {
        dispatch.label = self.label(&dispatch.label);
        let bytes = dispatch.bindings.iter().map(|(name, operand, _)| match operand {
            Operand::Tensor(id) => (*name, self.values[*id as usize].bytes()),
            Operand::Weight(ix) => (*name, self.weights[*ix as usize].bytes()),
        });
        self.check(&dispatch.label, bytes, dispatch.grid)?;
        self.dispatches.push(dispatch);
        Ok(())
    }
    /// Records a dispatch that can be done in several ways: as the first of `candidates`, until a
    /// [`choice::Tuning`] names another. Those that the target has no room for are left out.
    ///
    /// # Errors
    /// [`KernelError::Limit`] of the first candidate.
    pub(crate) fn dispatch_any(
        &mut self,
        label: &str,
        class: String,
        candidates: Vec<Candidate>,
        flops: u64,
    ) -> Result<(), KernelError> {
        let check = |candidate: &Candidate| {
            let bytes = candidate.bindings.iter().map(|(name, bound, _)| match bound {
                Bound::Tensor(id) => (*name, self.values[*id as usize].bytes()),
                Bound::Weight(weight) => (*name, weight.bytes()),
            });
            self.check(&self.label(label), bytes, candidate.grid)
        };
        let Some(first) = candidates.first() else { return Ok(()) };
        check(first)?;
        let candidates: Vec<Candidate> = candidates.into_iter().filter(|c| check(c).is_ok()).collect();
        let Candidate { variant, bindings, immediates, grid, .. } = candidates[0].clone();
        let bindings = choice::operands(bindings, &mut self.weights);
        let label = self.label(label);
        self.choices.insert(self.dispatches.len(), Choices { class, candidates, chosen: 0 });
        self.dispatches.push(Dispatch { label, variant, bindings, immediates, grid, flops });
        Ok(())
    }
    /// `label` behind the open scopes.
    fn label(&self, label: &str) -> String {
        let scopes = self.scope.join(".");
        let slash = if scopes.is_empty() || label.is_empty() { "" } else { "/" };
        format!("{scopes}{slash}{label}")
    }
    /// Refuses bindings and grids past the target's limits.
    fn check<'a>(
        &self,
        label: &str,
        bytes: impl Iterator<Item = (&'a str, u64)>,
        grid: [u32; 3],
    ) -> Result<(), KernelError> {
        let limit = |what: String, needed: u64, limit: u64| KernelError::Limit { what, needed, limit };
        let max = self.target.max_binding_bytes;
        for (name, bytes) in bytes {
            if bytes > max {
                return Err(limit(format!("{label}: binding `{name}`"), bytes, max));
            }
        }
        let (widest, max) = (grid.into_iter().max().unwrap_or(0), self.target.max_workgroups);
        if widest > max {
            return Err(limit(format!("{label}: workgroups"), widest.into(), max.into()));
        }
        Ok(())
    }
    /// Freezes the plan and plans its memory.
    pub fn finish(self) -> Plan {
        let memory = memory::plan(&self.values, &self.dispatches);
        Plan {
            target: self.target,
            values: self.values,
            weights: self.weights,
            dispatches: self.dispatches,
            choices: self.choices,
            memory,
        }
    }
}

impl Tensor {
    /// This tensor as an operand.
    pub(crate) fn operand(self) -> Operand {
        Operand::Tensor(self.id)
    }
}

/// A frozen list of dispatches with its memory plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was recorded for.
    pub target: Target,
    /// Every tensor, by id.
    pub values: Vec<Value>,
    /// Every weight.
    pub weights: Vec<Weight>,
    /// What runs, in order.
    pub dispatches: Vec<Dispatch>,
    /// Other ways to do some of them, by their place there.
    pub choices: BTreeMap<usize, Choices>,
    /// Which slot buffer each intermediate tensor has.
    pub memory: Memory,
}

impl Plan {
    /// Useful floating-point operations of one replay.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|d| d.flops).sum()
    }
    /// Bytes of everything that dispatch `ix` binds, each tensor and weight once: the least that
    /// it has to move.
    pub fn dispatch_bytes(&self, ix: usize) -> u64 {
        let bindings = &self.dispatches[ix].bindings;
        let is_new = |at: usize| bindings[..at].iter().all(|(_, operand, _)| *operand != bindings[at].1);
        let bytes = |at: usize| match bindings[at].1 {
            Operand::Tensor(id) => self.values[id as usize].bytes(),
            Operand::Weight(ix) => self.weights[ix as usize].bytes(),
        };
        (0..bindings.len()).filter(|&at| is_new(at)).map(bytes).sum()
    }
    /// Bytes that all dispatches of one replay bind: the least traffic without keeping anything
    /// near the cores from one dispatch to the next.
    pub fn traffic_bytes(&self) -> u64 {
        (0..self.dispatches.len()).map(|ix| self.dispatch_bytes(ix)).sum()
    }
    /// Bytes of all weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(Weight::bytes).sum()
    }
    /// The input or output called `name`: its id and value.
    pub fn named(&self, name: &str) -> Option<(u32, &Value)> {
        self.values.iter().enumerate().find_map(|(id, v)| match &v.storage {
            Storage::Input(n) | Storage::Output(n) if n == name => Some((id as u32, v)),
            _ => None,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "plan tier={} dispatches={} gflop={:.3} weights={} B slots={} ({} B)",
            self.target.tier.name(),
            self.dispatches.len(),
            self.flops() as f64 / 1e9,
            self.weight_bytes(),
            self.memory.slot_bytes.len(),
            self.memory.slot_bytes.iter().sum::<u64>()
        )?;
        for d in &self.dispatches {
            write!(f, "{} | {} | {:?} |", d.label, d.variant, d.grid)?;
            for (name, operand, written) in &d.bindings {
                let sign = if *written { "->" } else { "" };
                match operand {
                    Operand::Tensor(id) => {
                        let v = &self.values[*id as usize];
                        write!(f, " {sign}{name}=%{id}:{}{}", v.dtype, v.shape)?;
                    }
                    Operand::Weight(ix) => {
                        write!(f, " {name}={}", self.weights[*ix as usize].name())?;
                    }
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
