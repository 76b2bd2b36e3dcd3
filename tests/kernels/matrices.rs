//! Matrix units: which products use them, with which tiles, and that they compute the same every time.

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::ops::{Conv2d, Linear};
use dreamglass_kernels::plan::{Define, Variant};
use dreamglass_kernels::{
    DType, KernelError, Matrices, Param, PlanBuilder, Shape, Target, Tensor, Tier, WeightSource,
};

use crate::harness::Random;

/// Runs whose results have to be the same to the bit; a GPU does thousands in the time of one of a CPU adapter's.
const RUNS: [usize; 2] = [1000, 10];

fn nvidia() -> Target {
    let matrices = Some(Matrices { fragment: 16, has_vectors: true, lanes: 32 });
    Target { matrices, max_workgroup_bytes: 48 << 10, ..Target::tile() }
}

/// The variants of what `record` records for `target`.
fn variants(
    target: Target,
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
) -> Vec<Variant> {
    let mut plan = PlanBuilder::new(target);
    record(&mut plan).unwrap_or_else(|e| panic!("{e}"));
    plan.finish().dispatches.into_iter().map(|d| d.variant).collect()
}

fn linear(
    rows: u32,
    c: u32,
    o: u32,
    dtype: DType,
) -> impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError> {
    move |plan| {
        Linear::new(plan.input("x", Shape::tokens(1, rows, c), dtype), Param::new("w", &[o, c])).record(plan)
    }
}

/// Kernel and tile of a variant.
fn tile_of(variant: &Variant) -> (&'static str, Option<u32>, Option<u32>) {
    let number = |name| {
        variant.defines.iter().find_map(|(n, value)| match value {
            Define::U32(value) if *n == name => Some(*value),
            _ => None,
        })
    };
    (variant.stem, number("tile_rows"), number("tile_columns"))
}

#[test]
fn products_of_f16_use_matrix_units_with_tiles_that_keep_a_gpu_busy() {
    let tile = |target, rows, o| tile_of(&variants(target, linear(rows, 64, o, DType::F16))[0]);
    let coop = |rows, columns| ("product_coop", Some(rows), Some(columns));
    assert_eq!(tile(nvidia(), 4096, 2560), coop(128, 128));
    assert_eq!(tile(nvidia(), 4096, 320), coop(128, 64));
    assert_eq!(tile(nvidia(), 256, 1280), coop(64, 64));
    // Little workgroup memory, none that fits, and subgroups of other sizes.
    assert_eq!(tile(Target { max_workgroup_bytes: 32 << 10, ..nvidia() }, 4096, 2560), coop(128, 64));
    assert_eq!(tile(Target { max_workgroup_bytes: 16 << 10, ..nvidia() }, 4096, 2560).0, "gemm_tile");
    let wide = Some(Matrices { fragment: 16, has_vectors: true, lanes: 64 });
    assert_eq!(tile(Target { matrices: wide, ..nvidia() }, 4096, 2560), coop(128, 128));
    assert_eq!(variants(nvidia(), linear(64, 64, 64, DType::F32))[0].stem, "gemm_tile");
    let narrow = variants(nvidia(), |plan| {
        let x = plan.input("x", Shape::new(1, 16, 16, 64), DType::F16);
        Conv2d::new(x, Param::new("w", &[3, 64, 3, 3])).record(plan)
    });
    assert_eq!(narrow[0].stem, "conv2d_narrow");
}

#[test]
fn convolutions_of_whole_tiles_fetch_what_they_see_once() {
    let tile = |target, [h, w]: [u32; 2], upsample| {
        let conv = |plan: &mut PlanBuilder| {
            let x = plan.input("x", Shape::new(2, h, w, 64), DType::F16);
            Conv2d { upsample, ..Conv2d::new(x, Param::new("w", &[128, 64, 3, 3])) }.record(plan)
        };
        tile_of(&variants(target, conv)[0])
    };
    let is = |stem, rows, columns| (stem, Some(rows), Some(columns));
    assert_eq!(tile(nvidia(), [64, 128], None), is("conv2d_coop", 128, 128));
    assert_eq!(tile(nvidia(), [64, 64], Some([128, 128])), is("conv2d_coop", 128, 128));
    // Lines or columns of part of a tile; another resize; no room for the halo, but for the tile.
    assert_eq!(tile(nvidia(), [68, 128], None), is("product_coop", 128, 128));
    assert_eq!(tile(nvidia(), [64, 120], None), is("product_coop", 128, 128));
    assert_eq!(tile(nvidia(), [64, 128], Some([64, 256])), is("product_coop", 128, 128));
    let small = Target { max_workgroup_bytes: 38 << 10, ..nvidia() };
    assert_eq!(tile(small, [64, 128], None), is("product_coop", 128, 128));
    // Strided ones read every other pixel.
    let strided = variants(nvidia(), |plan| {
        let x = plan.input("x", Shape::new(1, 64, 64, 64), DType::F16);
        Conv2d { stride: 2, ..Conv2d::new(x, Param::new("w", &[64, 64, 3, 3])) }.record(plan)
    });
    assert_eq!(strided[0].stem, "product_coop");
}

struct Noise;

impl WeightSource for Noise {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Ok(Random::new(name.len() as u64).range(shape.iter().product::<u32>() as usize, -0.125, 0.125))
    }
}

#[test]
fn matrix_units_compute_the_same_every_time() {
    let open = |without_matrices| {
        let options = GpuOptions { tier: Some(Tier::Tile), without_matrices, ..GpuOptions::default() };
        Gpu::open(&options).unwrap_or_else(|e| panic!("these tests need an adapter: {e}"))
    };
    assert_eq!(open(true).matrices(), Err("they are turned off"));
    let gpu = open(false);
    let matrices = match gpu.matrices() {
        Ok(matrices) => matrices,
        Err(why) => {
            assert!(!why.contains("got"), "the adapter's matrix units are wrong: {why}");
            return eprintln!("nothing to test: {why}");
        }
    };
    let run = |[height, width]: [u32; 2], stem| -> Result<(), KernelError> {
        let mut plan = PlanBuilder::new(gpu.target());
        let x = plan.input("x", Shape::new(1, height, width, 96), DType::F16);
        let first = Conv2d { statistics: true, ..Conv2d::new(x, Param::new("first", &[128, 96, 3, 3])) };
        let h = first.record(&mut plan)?;
        let y = Linear::new(h, Param::new("second", &[192, 128])).record(&mut plan)?;
        plan.output("y", y)?;
        let plan = plan.finish();
        let stems: Vec<&str> = plan.dispatches.iter().map(|d| d.variant.stem).collect();
        assert_eq!(stems, [stem, "product_coop"], "{plan}");
        let executable = Executable::new(&gpu, plan, &Noise, &WeightCache::default(), &[])?;
        executable.tensor("x")?.write_f32(&Random::new(1).halves((height * width * 96) as usize))?;
        executable.run()?;
        let expected = executable.tensor("y")?.read_raw()?;
        let runs = RUNS[usize::from(gpu.summary().is_software)];
        for run in 0..runs {
            executable.run()?;
            assert!(executable.tensor("y")?.read_raw()? == expected, "run {run} of {runs} differs");
        }
        eprintln!("{runs} runs of {stem} alike with fragments of {}", matrices.fragment);
        Ok(())
    };
    for (size, stem) in [([24, 40], "product_coop"), ([24, 48], "conv2d_coop")] {
        run(size, stem).unwrap_or_else(|e| panic!("{stem}: {e}"));
    }
}
