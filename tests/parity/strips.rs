//! The autoencoder in strips is the autoencoder: to the bit, as every sum has the same order.

use dreamglass_engine::model::{AutoencoderConfig, autoencoder};
use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::{DType, KernelError, PlanBuilder, Shape, Tensor, WeightSource};
use dreamglass_tests::{Random, gpu, tiers};

/// Small values by name, the same every time.
struct Named;

impl WeightSource for Named {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Random::new(seed);
        let scale = 2.0 / (shape.iter().skip(1).product::<u32>().max(1) as f32).sqrt();
        Ok((0..shape.iter().product::<u32>()).map(|_| random.uniform() * scale).collect())
    }
}

/// What `record` makes of an input of `shape`, on each tier, with the dispatches that it took.
fn results(
    shape: Shape,
    record: impl Fn(&mut PlanBuilder, Tensor) -> Result<Tensor, KernelError>,
) -> Vec<(usize, Vec<f32>)> {
    let values = Random::new(3).halves(shape.elements() as usize);
    let run = |tier| -> Result<_, KernelError> {
        let gpu = gpu(tier);
        let mut plan = PlanBuilder::new(gpu.target());
        let x = plan.input("x", shape, DType::F32);
        let y = record(&mut plan, x)?;
        plan.output("y", y)?;
        let executable = Executable::new(&gpu, plan.finish(), &Named, &WeightCache::default(), &[])?;
        executable.tensor("x")?.write_f32(&values)?;
        executable.poison(0x7fc0_7e00)?;
        executable.run()?;
        Ok((executable.plan().dispatches.len(), executable.tensor("y")?.read_f32()?))
    };
    tiers().into_iter().map(|tier| run(tier).unwrap_or_else(|e| panic!("{tier:?}: {e}"))).collect()
}

fn config(blocks: &str, strip_bytes: u64) -> AutoencoderConfig {
    let text = format!(
        r#"{{"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [16, 16, 16],
        "decoder_block_out_channels": [16, 16, 16], "num_encoder_blocks": {blocks},
        "num_decoder_blocks": {blocks}}}"#
    );
    let config = AutoencoderConfig::parse("config.json", text.as_bytes());
    AutoencoderConfig { strip_bytes, ..config.unwrap_or_else(|e| panic!("{e}")) }
}

#[test]
fn strips_change_nothing() {
    // Pixels of 16 channels in f32: strips of 26 rows, of few rows with wide margins, and none.
    let row = 36 * 16 * 4;
    for (blocks, rows, strips) in [("[1, 1, 2]", 26, 3), ("[2, 1, 1]", 8, 10), ("[0, 1, 1]", 2, 38)] {
        let (whole, striped) = (config(blocks, u64::MAX), config(blocks, rows * row));
        let encode = |config: AutoencoderConfig| {
            results(Shape::new(1, 76, 36, 3), move |b, x| autoencoder::encoder(b, &config, x, DType::F32))
        };
        let decode = |config: AutoencoderConfig| {
            results(Shape::new(1, 19, 9, 4), move |b, x| {
                autoencoder::decoder(b, &config, x.into(), 1.0, DType::F32)
            })
        };
        let pairs = [
            ("encoder", encode(whole.clone()), encode(striped.clone())),
            ("decoder", decode(whole), decode(striped)),
        ];
        for (name, whole, striped) in pairs {
            for ((few, expected), (many, got)) in whole.into_iter().zip(striped) {
                assert!(expected.iter().all(|v| v.is_finite()), "{name} {blocks}");
                assert!(many >= few + 2 * (strips - 1), "{name} {blocks}: {many} dispatches after {few}");
                let first = expected.iter().zip(&got).position(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(first, None, "{name} {blocks} in strips of {rows} rows");
            }
        }
    }
}
