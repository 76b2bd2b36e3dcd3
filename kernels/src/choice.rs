//! Dispatches that can be done in several ways, and which of them a device does.
//!
//! Ops list every way as a [`Candidate`], the one that suits most devices of the tier first. A [`Tuning`], which
//! [`crate::tune`] fills by measurement, names another for a class of dispatches; [`Plan::tuned`] puts it in.

use std::collections::BTreeMap;
use std::fmt;

use crate::memory;
use crate::plan::{Dispatch, Operand, Plan, Variant};
use crate::tensor::Tensor;
use crate::weight::Weight;

/// What a binding of a candidate refers to.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A tensor of the plan.
    Tensor(u32),
    /// A weight: other ways to do the same may want it in another layout.
    Weight(Box<Weight>),
}

impl From<Tensor> for Bound {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor.id)
    }
}

impl From<Weight> for Bound {
    fn from(weight: Weight) -> Self {
        Self::Weight(Box::new(weight))
    }
}

/// Bindings as in [`Dispatch::bindings`], with their weights.
pub type Bindings = Vec<(&'static str, Bound, bool)>;

/// One way to do a dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Tells it from the others of its class, such as `tile 64x64 by 256`.
    pub name: String,
    /// The kernel.
    pub variant: Variant,
    /// What it binds.
    pub bindings: Bindings,
    /// The `var<immediate>` block as words.
    pub immediates: Vec<u32>,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// Every way to do one dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// What is computed, in which sizes and storage types: dispatches of one class take equally long.
    pub class: String,
    /// The ways, the first guess first.
    pub candidates: Vec<Candidate>,
    /// Which of them the plan holds.
    pub chosen: usize,
}

impl Choices {
    /// The candidate of that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.name == name)
    }
}

/// The best candidate of each class, by names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning(BTreeMap<String, String>);

impl Tuning {
    /// The candidate for `class`, where one was found.
    pub fn get(&self, class: &str) -> Option<&str> {
        self.0.get(class).map(String::as_str)
    }
    /// Chooses `candidate` for `class`.
    pub fn set(&mut self, class: impl Into<String>, candidate: impl Into<String>) {
        self.0.insert(class.into(), candidate.into());
    }
    /// Classes with their candidates, by class.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(class, candidate)| (class.as_str(), candidate.as_str()))
    }
    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many classes have a candidate.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(class, candidate)| writeln!(f, "{class}: {candidate}"))
    }
}

impl Plan {
    /// The plan with the candidates that `tuning` names; where it names none, or one that there is not, nothing
    /// changes.
    #[must_use]
    pub fn tuned(mut self, tuning: &Tuning) -> Self {
        let chosen: Vec<(usize, usize)> = self
            .choices
            .iter()
            .filter_map(|(ix, choices)| Some((*ix, choices.named(tuning.get(&choices.class)?)?)))
            .collect();
        let has_changed = !chosen.is_empty();
        for (dispatch, candidate) in chosen {
            self.choose(dispatch, candidate);
        }
        if has_changed {
            // Some candidates bind memory that others do without.
            self.memory = memory::plan(&self.values, &self.dispatches);
        }
        self.drop_unused_weights();
        self
    }

    /// Puts a candidate in place of dispatch `ix`; weights that nothing else binds stay until
    /// [`Self::drop_unused_weights`].
    pub(crate) fn choose(&mut self, ix: usize, candidate: usize) {
        let Some(choices) = self.choices.get_mut(&ix) else { return };
        if choices.chosen == candidate {
            return;
        }
        choices.chosen = candidate;
        self.put(ix);
    }

    /// Makes of dispatch `ix` what its chosen candidate says; weights that nothing else binds stay.
    pub(crate) fn put(&mut self, ix: usize) {
        let Some(choices) = self.choices.get(&ix) else { return };
        let Candidate { variant, bindings, immediates, grid, .. } =
            choices.candidates[choices.chosen].clone();
        let bindings = operands(bindings, &mut self.weights);
        let dispatch = &mut self.dispatches[ix];
        *dispatch = Dispatch {
            label: std::mem::take(&mut dispatch.label),
            variant,
            bindings,
            immediates,
            grid,
            ..*dispatch
        };
    }

    pub(crate) fn drop_unused_weights(&mut self) {
        let mut place_of = vec![None; self.weights.len()];
        let weights = std::mem::take(&mut self.weights);
        let bound = self.dispatches.iter_mut().flat_map(|d| &mut d.bindings);
        for operand in bound.map(|(_, operand, _)| operand) {
            if let Operand::Weight(ix) = operand {
                let place = place_of[*ix as usize].get_or_insert_with(|| {
                    self.weights.push(weights[*ix as usize].clone());
                    self.weights.len() as u32 - 1
                });
                *ix = *place;
            }
        }
    }
}

/// Bindings whose weights are among `weights`, to which those that are not there yet are added.
pub(crate) fn operands(bindings: Bindings, weights: &mut Vec<Weight>) -> Vec<(&'static str, Operand, bool)> {
    let place = |bound, weights: &mut Vec<Weight>| match bound {
        Bound::Tensor(id) => Operand::Tensor(id),
        Bound::Weight(weight) => {
            let ix = weights.iter().position(|w| *w == *weight).unwrap_or_else(|| {
                weights.push(*weight);
                weights.len() - 1
            });
            Operand::Weight(ix as u32)
        }
    };
    bindings.into_iter().map(|(name, bound, written)| (name, place(bound, weights), written)).collect()
}
