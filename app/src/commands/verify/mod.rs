//! `dreamglass verify`: a model against tensors that diffusers computed.

mod checks;
mod reference;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use self::reference::Reference;
use super::print;
use crate::cli::{Precision, VerifyArgs, Weights};
use crate::failure::bad_input;
use crate::{config, model};

/// Largest relative L2 error in f32: sums in another order over a network's depth come to 1e-6 to
/// 1e-5, and the kernels' polynomial erf and exp2-based softmax add some.
const TOLERANCE_F32: f64 = 1e-4;
/// The same in f16, whose steps are 4.9e-4: ten of them over some hundred layers.
const TOLERANCE_F16: f64 = 5e-3;
/// With int8 weights, each of which is off by up to half a step of 1/127 of its channel's largest.
const TOLERANCE_INT8: f64 = 5e-2;

/// Outputs that are looked at: their error is also given as a PSNR.
const PICTURES: [&str; 2] = ["vae_decoder.image", "img2img.output"];

/// One output compared with its reference.
struct Comparison {
    name: &'static str,
    shape: Vec<usize>,
    /// `‖ours − reference‖ / ‖reference‖`; infinite where ours is not finite.
    relative_l2: f64,
    max_error: f64,
    /// Peak signal-to-noise ratio in dB of a picture in [-1,1], both clamped; none for other tensors.
    psnr_db: Option<f64>,
}

/// Checks every network that the reference has tensors of.
pub fn run(arguments: &VerifyArgs) -> Result<ExitCode> {
    let VerifyArgs { place, dtype, weights, .. } = arguments;
    let tolerance = tolerance(arguments)?;
    let files = model::files(place.model())?;
    let reference = Reference::open(&arguments.reference)?;
    let gpu = config::open_gpu(&place.adapter())?;
    let (dtype, weights) = (config::dtype(*dtype), config::weights(*weights));
    let subject = checks::Subject { gpu: &gpu, files: &files, dtype, weights };
    let comparisons = checks::run(&subject, &reference)?;
    if comparisons.is_empty() {
        bail!(bad_input(format!(
            "{}: has none of the reference tensors, see `dreamglass verify --help`",
            arguments.reference.display()
        )));
    }
    let passed = comparisons.iter().all(|c| c.relative_l2 <= tolerance);
    if arguments.json {
        let tensors: Vec<_> = comparisons.iter().map(|c| c.in_json(tolerance)).collect();
        let report = json!({
            "model": place.model(), "reference": arguments.reference, "dtype": subject.dtype.name(),
            "weights": if arguments.weights == Weights::Int8 { "int8" } else { "same" },
            "adapter": gpu.summary().name, "tolerance": tolerance, "passed": passed, "tensors": tensors,
        });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&comparisons.iter().map(|c| c.in_text(tolerance)).collect::<String>())?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn tolerance(arguments: &VerifyArgs) -> Result<f64> {
    let default = match (arguments.weights, arguments.dtype) {
        (Weights::Int8, _) => TOLERANCE_INT8,
        (Weights::Same, Precision::F32) => TOLERANCE_F32,
        (Weights::Same, Precision::F16) => TOLERANCE_F16,
    };
    let tolerance = arguments.tolerance.unwrap_or(default);
    if !(tolerance.is_finite() && tolerance > 0.0) {
        bail!(bad_input(format!("--tolerance: expected a number above 0, got {tolerance}")));
    }
    Ok(tolerance)
}

impl Comparison {
    /// Compares values in the same order.
    fn new(name: &'static str, shape: &[usize], ours: &[f32], reference: &[f32]) -> Result<Self> {
        if ours.len() != reference.len() {
            let (expected, got) = (ours.len(), reference.len());
            bail!(bad_input(format!("{name}: the model makes {expected} values, the reference has {got}")));
        }
        let (mut error, mut norm, mut max_error, mut shown) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (&a, &b) in ours.iter().zip(reference) {
            let (a, b) = (f64::from(a), f64::from(b));
            let difference = if a.is_finite() { (a - b).abs() } else { f64::INFINITY };
            error += difference * difference;
            norm += b * b;
            // A NaN would show as anything: the whole range counts as its error.
            let seen = if a.is_nan() { 2.0 } else { a.clamp(-1.0, 1.0) - b.clamp(-1.0, 1.0) };
            shown += seen * seen;
            max_error = max_error.max(difference);
        }
        // A reference of zeros has no scale: any error is then infinitely large.
        let relative_l2 = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
        let is_picture = PICTURES.contains(&name);
        let psnr_db = is_picture.then(|| 10.0 * (4.0 * reference.len() as f64 / shown.max(1e-12)).log10());
        Ok(Self { name, shape: shape.to_vec(), relative_l2, max_error, psnr_db })
    }
    fn in_text(&self, tolerance: f64) -> String {
        let Self { name, shape, relative_l2, max_error, psnr_db } = self;
        let psnr = psnr_db.map_or(String::new(), |v| format!("  PSNR {v:.1} dB"));
        let verdict = if *relative_l2 <= tolerance { "ok" } else { "OUTSIDE" };
        let name = format!("{name} {shape:?}");
        format!("{name:50} relative L2 {relative_l2:.2e}  max error {max_error:.2e}{psnr}  {verdict}\n")
    }
    fn in_json(&self, tolerance: f64) -> serde_json::Value {
        // JSON has no infinity: null stands for it.
        json!({"name": self.name, "shape": self.shape, "relative_l2": self.relative_l2,
               "max_error": self.max_error, "psnr_db": self.psnr_db, "passed": self.relative_l2 <= tolerance})
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::Comparison;

    fn compare(ours: &[f32], reference: &[f32]) -> Comparison {
        Comparison::new("x", &[reference.len()], ours, reference).unwrap()
    }

    #[test]
    fn errors_are_relative_to_the_reference() {
        let c = compare(&[3.0, 4.5], &[3.0, 4.0]);
        assert!((c.relative_l2 - 0.1).abs() < 1e-12 && (c.max_error - 0.5).abs() < 1e-12);
        assert!(compare(&[f32::NAN, 1.0], &[1.0, 1.0]).relative_l2.is_infinite());
        assert!(compare(&[1.0], &[0.0]).relative_l2.is_infinite());
        assert!(compare(&[1.0], &[1.0]).psnr_db.is_none());
        let picture = Comparison::new("img2img.output", &[2], &[1.5, 0.2], &[1.0, 0.0]).unwrap();
        assert!((picture.psnr_db.unwrap() - 10.0 * 200f64.log10()).abs() < 1e-6);
        assert!(Comparison::new("x", &[2], &[1.0], &[1.0, 2.0]).is_err());
    }
}
