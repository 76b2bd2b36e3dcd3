//! The same weights in every way that files hold them.

use std::collections::HashMap;
use std::path::Path;

use dreamglass_engine::model::UnetConfig;
use dreamglass_engine::{Engine, EngineOptions, ModelFiles, Network, UnetInputs};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::case::Case;

const STEM: &str = "unet/diffusion_pytorch_model";

/// Name, shape and values of a tensor of a file.
pub type FileTensor = (String, Vec<usize>, Vec<f32>);

pub fn read(path: &Path) -> Vec<FileTensor> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut tensors: Vec<FileTensor> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), values(view.data())))
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

pub fn write(path: &Path, dtype: Dtype, tensors: &[FileTensor]) {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match dtype {
            Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    };
    let packed: Vec<_> = tensors.iter().map(|(name, shape, v)| (name, shape.clone(), bytes(v))).collect();
    let views = packed.iter().map(|(n, shape, b)| (n, TensorView::new(dtype, shape.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A folder with the golden's config, and files that `make` puts there.
fn with_files(case: &Case, make: impl Fn(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("unet")).unwrap();
    std::fs::copy(case.path().join("unet/config.json"), folder.path().join("unet/config.json")).unwrap();
    make(folder.path());
    folder
}

fn predict(gpu: &Gpu, case: &Case, folder: &Path) -> Vec<f32> {
    let unet = Network::<UnetConfig>::open(&ModelFiles::Folder(folder.into())).unwrap();
    let sample = case.tensor("unet.sample");
    let inputs = UnetInputs {
        size: sample.size(),
        sample: &sample.nhwc(),
        timesteps: &case.tensor("unet.timestep").f32(),
        text_embeddings: &case.tensor("unet.encoder_hidden_states").f32(),
        guidance: None,
    };
    unet.predict(gpu, DType::F32, inputs).unwrap()
}

#[test]
fn shards_variants_and_storage_types_give_the_same() {
    let case = Case::open("unet_sd15");
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let tensors = read(&case.path().join(format!("{STEM}.safetensors")));
    let single = |suffix: &str, dtype: Dtype, tensors: &[FileTensor]| {
        let make = |folder: &Path| write(&folder.join(format!("{STEM}{suffix}.safetensors")), dtype, tensors);
        predict(&gpu, &case, with_files(&case, make).path())
    };
    let rounded = |round: fn(f32) -> f32| -> Vec<FileTensor> {
        let round = |(name, shape, v): &FileTensor| {
            (name.clone(), shape.clone(), v.iter().map(|&v| round(v)).collect())
        };
        tensors.iter().map(round).collect()
    };
    let plain = single("", Dtype::F32, &tensors);
    for (dtype, round) in [
        (Dtype::F16, (|v| f16::from_f32(v).to_f32()) as fn(f32) -> f32),
        (Dtype::BF16, |v| bf16::from_f32(v).to_f32()),
    ] {
        let expected = single("", Dtype::F32, &rounded(round));
        assert_ne!(plain, expected, "{dtype:?} holds every weight: the test shows nothing");
        assert!(single("", dtype, &tensors) == expected, "{dtype:?}");
        assert!(single(".fp16", dtype, &tensors) == expected, "{dtype:?} as a variant");
    }
    let sharded = with_files(&case, |folder| {
        let mut map = HashMap::new();
        for (ix, part) in tensors.chunks(tensors.len().div_ceil(3)).enumerate() {
            let name = format!("diffusion_pytorch_model-{:05}-of-00003.safetensors", ix + 1);
            write(&folder.join("unet").join(&name), Dtype::F32, part);
            map.extend(part.iter().map(|(tensor, _, _)| (tensor.clone(), name.clone())));
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        std::fs::write(folder.join(format!("{STEM}.safetensors.index.json")), index).unwrap();
    });
    assert!(predict(&gpu, &case, sharded.path()) == plain, "shards");
}

#[test]
fn tensors_that_nothing_reads_are_named() {
    let case = Case::open("img2img_lcm_1");
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let options = EngineOptions { dtype: DType::F32, ..Default::default() };
    let unused = || Engine::load(&gpu, &case.files(), &options).unwrap().unused_weights().to_vec();
    assert!(unused().is_empty(), "{:?}", unused());
    let path = case.path().join(format!("{STEM}.safetensors"));
    let mut tensors = read(&path);
    tensors.push(("add_embedding.linear_1.weight".into(), vec![2, 2], vec![1.0; 4]));
    write(&path, Dtype::F32, &tensors);
    assert_eq!(unused(), ["unet: add_embedding.linear_1.weight"]);
}
