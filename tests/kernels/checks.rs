//! Kernels with their runtime checks on and off compute the same: checks that matter would be bugs.

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::ops::{Attention, Conv2d, Linear, Norm, Shortcut};
use dreamglass_kernels::{
    Columns, DType, KernelError, Param, PlanBuilder, Shape, Tensor, Tier, WeightSource,
};

use crate::harness::Random;

/// Small random weights, by their names.
pub struct Noise;

impl WeightSource for Noise {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let seed = name.bytes().map(u64::from).sum();
        Ok(Random::new(seed).range(shape.iter().product::<u32>() as usize, -0.25, 0.25))
    }
}

/// Odd sizes, so that every tile has an end that is not full: a resnet and a transformer block, halved and doubled.
fn network(plan: &mut PlanBuilder, x: Tensor) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let conv = |name: &str, x, i| Conv2d::new(x, Param::new(name, &[48, i, 3, 3]));
    let group = |c| {
        let (weight, bias) = (Param::new("scale", &[c]), Param::new("shift", &[c]));
        Some(Norm::Group { weight, bias, groups: 6, eps: 1e-5, silu: true })
    };
    let layer = || {
        let (weight, bias) = (Param::new("layer scale", &[48]), Param::new("layer shift", &[48]));
        Some(Norm::Layer { weight, bias, eps: 1e-5 })
    };
    let first = Conv2d { statistics: true, ..conv("first", x, c) }.record(plan)?;
    let h = Conv2d { stride: 2, statistics: true, ..conv("halved", first, 48) }.record(plan)?;
    let shortcut = Shortcut { x: h, x2: None, weight: Param::new("shortcut", &[48, 48]), bias: None };
    let h = Conv2d { norm: group(48), shortcut: Some(shortcut), ..conv("normed", h, 48) }.record(plan)?;
    let qkv = Linear { norm: layer(), ..Linear::new(h, Param::new("qkv", &[144, 48])) }.record(plan)?;
    let part = |index: u32| Columns { tensor: qkv, offset: index * 48, c: 48 };
    let h = Attention::new(part(0), part(1), part(2), 1).record(plan)?;
    let gated = Linear { norm: layer(), is_gated: true, ..Linear::new(h, Param::new("gated", &[384, 48])) };
    let wide = gated.record(plan)?;
    let h =
        Linear { residual: Some(h), ..Linear::new(wide, Param::new("narrow", &[48, 192])) }.record(plan)?;
    let size = [2 * h.shape.h, 2 * h.shape.w];
    let h = Conv2d { upsample: Some(size), ..conv("doubled", h, 48) }.record(plan)?;
    Conv2d::new(h, Param::new("last", &[3, 48, 3, 3])).record(plan)
}

fn result(options: &GpuOptions, dtype: DType) -> Option<Vec<u8>> {
    let gpu = match Gpu::open(options) {
        Ok(gpu) => gpu,
        // A GPU that cannot run the tier of CPU adapters.
        Err(KernelError::Unsupported { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let run = || {
        let mut plan = PlanBuilder::new(gpu.target());
        let shape = Shape::new(1, 17, 23, 20);
        let x = plan.input("x", shape, dtype);
        let y = network(&mut plan, x)?;
        plan.output("y", y)?;
        let executable = Executable::new(&gpu, plan.finish(), &Noise, &WeightCache::default(), &[])?;
        executable.tensor("x")?.write_f32(&Random::new(5).halves(shape.elements() as usize))?;
        executable.run()?;
        executable.tensor("y")?.read_raw()
    };
    Some(run().unwrap_or_else(|e| panic!("{options:?}: {e}")))
}

#[test]
fn runtime_checks_change_no_bit() {
    for tier in [Tier::Lane, Tier::Tile] {
        for (dtype, without_matrices) in [(DType::F32, true), (DType::F16, true), (DType::F16, false)] {
            let with = |runtime_checks| {
                let tier = Some(tier);
                result(&GpuOptions { tier, without_matrices, runtime_checks, ..Default::default() }, dtype)
            };
            let (checked, unchecked) = (with(true), with(false));
            assert_eq!(checked, unchecked, "{tier:?} {dtype}, without matrices {without_matrices}");
            let zeros = checked.iter().flatten().filter(|&&byte| byte == 0).count();
            assert!(checked.is_none_or(|bytes| zeros < bytes.len() / 2), "{tier:?} {dtype}: zeros");
        }
    }
}
