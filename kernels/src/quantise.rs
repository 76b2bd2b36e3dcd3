//! Plans whose products read their weights as bytes.

use crate::choice::{Bound, Candidate, Choices};
use crate::plan::{Define, Plan};
use crate::tensor::DType;
use crate::weight::{Values, Weight};

/// Fewest outputs: a network's last product has a picture's or a noise's channels, nothing behind it evens its errors
/// out, and its weights are a millionth of all.
const OUTPUTS: u32 = 5;
/// Fewest values for each output: the first product of a network reads a picture or latents through a few dozen, and
/// scales would cost as much as the bytes save.
const INPUTS: usize = 64;

impl Plan {
    /// The plan with the weights of its products as [`DType::I8`], which kernels turn into f32 as they read them;
    /// sums are multiplied by the scale of their column once. What is small stays as it is: norms, biases, tables, the
    /// first and last product of a network. Before tuning: its classes are others.
    #[must_use]
    pub fn with_int8_weights(mut self) -> Self {
        let mut changed = Vec::new();
        for (ix, choices) in &mut self.choices {
            if choices.candidates.iter().all(|candidate| candidate.product().is_some_and(gains)) {
                choices.quantise();
                changed.push(*ix);
            }
        }
        changed.into_iter().for_each(|ix| self.put(ix));
        self.drop_unused_weights();
        self
    }
}

/// Whether bytes save memory and spoil little.
fn gains(weight: &Weight) -> bool {
    let parts = weight.values.shapes();
    let inputs: usize = parts.iter().map(|part| part.row()).sum();
    parts.iter().all(|part| part.outer >= OUTPUTS) && inputs >= INPUTS
}

impl Choices {
    fn quantise(&mut self) {
        self.candidates.iter_mut().for_each(Candidate::quantise);
        self.class += ", int8 weights";
    }
}

impl Candidate {
    /// The weight that is multiplied with, where there is one.
    fn product(&self) -> Option<&Weight> {
        self.bindings.iter().find_map(|(name, bound, _)| match bound {
            Bound::Weight(weight) if *name == "weight" => Some(&**weight),
            _ => None,
        })
    }

    fn quantise(&mut self) {
        for (name, define) in &mut self.variant.defines {
            if *name == "w_dtype" {
                *define = Define::Str(DType::I8.name());
            }
        }
        for (name, bound, _) in &mut self.bindings {
            let Bound::Weight(weight) = bound else { continue };
            if *name == "weight" {
                weight.dtype = DType::I8;
            }
            // What a norm before the product takes off again is a sum of its weights.
            if let Values::Folded { stored, .. } = &mut weight.values {
                *stored = DType::I8;
            }
        }
    }
}
