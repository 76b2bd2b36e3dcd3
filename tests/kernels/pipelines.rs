//! Compiled kernels between runs: what a store is asked for, and what it is given.

use std::sync::{Arc, Mutex, PoisonError};

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::ops::Linear;
use dreamglass_kernels::{DType, KernelError, Param, PipelineStore, PlanBuilder, Shape, WeightSource};

#[derive(Debug, Default)]
struct Shelf {
    kept: Mutex<Option<(String, Vec<u8>)>>,
    asked: Mutex<Vec<String>>,
}

impl PipelineStore for Shelf {
    fn load(&self, key: &str) -> Option<Vec<u8>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(key.into());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(name, _)| name == key).map(|(_, data)| data.clone())
    }
    fn save(&self, key: &str, data: &[u8]) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.into(), data.to_vec()));
    }
}

struct Ones;

impl WeightSource for Ones {
    fn read(&self, _: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Ok(vec![1.0; shape.iter().product::<u32>() as usize])
    }
}

/// Opens a device, multiplies if asked to, and closes it; whether kernels were found.
fn run(store: &Arc<Shelf>, computes: bool) -> bool {
    let run = || -> Result<bool, KernelError> {
        let gpu = Gpu::open_with(
            &GpuOptions { without_matrices: true, ..Default::default() },
            Some(store.clone()),
        )?;
        let is_warm = gpu.is_warm();
        if computes {
            let mut plan = PlanBuilder::new(gpu.target());
            let x = plan.input("x", Shape::tokens(1, 9, 8), DType::F32);
            let y = Linear::new(x, Param::new("w", &[12, 8])).record(&mut plan)?;
            plan.output("y", y)?;
            let executable = Executable::new(&gpu, plan.finish(), &Ones, &WeightCache::default(), &[])?;
            executable.tensor("x")?.write_f32(&[2.0; 72])?;
            executable.run()?;
            assert_eq!(executable.tensor("y")?.read_f32()?, [16.0; 108]);
        }
        Ok(is_warm)
    };
    run().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn compiled_kernels_are_kept_when_a_device_is_closed() {
    let store = Arc::new(Shelf::default());
    assert!(!run(&store, false), "nothing was kept yet");
    let asked = store.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let [key] = &asked[..] else { return eprintln!("the driver keeps no kernels: {asked:?}") };
    assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.'), "{key}");
    let kept = || store.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(kept(), None, "nothing was compiled");
    assert!(!run(&store, true));
    assert!(kept().is_some_and(|(name, data)| name == *key && !data.is_empty()));
    assert!(run(&store, true), "the second run finds what the first one kept");
    // What a store hands out by mistake is the driver's to refuse.
    for rubbish in [Vec::new(), vec![0; 3], vec![0xff; 5000]] {
        store.save(key, &rubbish);
        run(&store, true);
    }
}
