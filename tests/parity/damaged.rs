//! Damaged models: loading fails early, with a message that names what is wrong.

use dreamglass_engine::{Engine, EngineOptions, ModelFiles};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::case::{self, Case};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// What loading a model says after `damage` was done to it.
fn complaint(gpu: &Gpu, damage: impl FnOnce(&Case)) -> String {
    let case = Case::open(&case::names("img2img_lcm_1")[0]);
    damage(&case);
    let options = EngineOptions { dtype: DType::F32, ..Default::default() };
    match Engine::load(gpu, &case.files(), &options) {
        Ok(_) => "nothing".into(),
        Err(error) => error.to_string(),
    }
}

/// Rewrites a weights file, each tensor as `change` says: kept, another shape and bytes, or dropped.
fn rewrite(case: &Case, file: &str, change: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>) -> bool) {
    let path = case.path().join(file);
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut rows = Vec::new();
    for (name, view) in tensors.tensors() {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if change(&name, &mut shape, &mut data) {
            rows.push((name, view.dtype(), shape, data));
        }
    }
    let views = rows.iter().map(|(n, dtype, s, d)| (n, TensorView::new(*dtype, s.clone(), d).unwrap()));
    safetensors::serialize_to_file(views, None, &path).unwrap();
}

fn replace(case: &Case, file: &str, from: &str, to: &str) {
    let path = case.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn damaged_models_are_refused_by_name() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let expect = |expected: &[&str], damage: &dyn Fn(&Case)| {
        let message = complaint(&gpu, damage);
        for part in expected {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    };
    expect(&["nothing"], &|_| ());
    expect(&["no weight `conv_in.bias`"], &|case| rewrite(case, UNET, |name, _, _| name != "conv_in.bias"));
    expect(&["`decoder.layers.0.bias`", "[16]", "[4, 4]"], &|case| {
        rewrite(case, VAE, |name, shape, _| {
            if name == "decoder.layers.0.bias" {
                *shape = vec![4, 4];
            }
            true
        });
    });
    expect(&["`time_embedding.linear_1.weight`", "value 0 is NaN"], &|case| {
        rewrite(case, UNET, |name, _, data| {
            if name == "time_embedding.linear_1.weight" {
                data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            true
        });
    });
    expect(&[UNET, "truncated"], &|case| {
        let path = case.path().join(UNET);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
    });
    expect(&["unet", "no diffusion_pytorch_model.safetensors"], &|case| {
        std::fs::remove_file(case.path().join(UNET)).unwrap();
    });
    expect(&["unet/config.json", "`act_fn`", "mish"], &|case| {
        replace(case, "unet/config.json", "\"silu\"", "\"mish\"");
    });
    expect(&["vae/config.json", "`_class_name`", "VQModel", "AutoencoderKL"], &|case| {
        replace(case, "vae/config.json", "AutoencoderTiny", "VQModel");
    });
    expect(&["`cross_attention_dim`", "hidden_size"], &|case| {
        replace(case, "unet/config.json", "\"cross_attention_dim\": 48", "\"cross_attention_dim\": 64");
    });
    expect(&["scheduler_config.json", "`beta_schedule`"], &|case| {
        replace(case, "scheduler/scheduler_config.json", "scaled_linear", "squaredcos_cap_v2");
    });
    expect(&["tokenizer", "vocab.json"], &|case| {
        std::fs::remove_file(case.path().join("tokenizer/vocab.json")).unwrap();
    });
    expect(&["text_encoder/config.json", "not JSON"], &|case| {
        std::fs::write(case.path().join("text_encoder/config.json"), "{").unwrap();
    });
}

#[test]
fn a_model_inside_the_program_loads_like_a_folder() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let case = Case::open(&case::names("img2img_lcm_1")[0]);
    let mut files: Vec<(&'static str, &'static [u8])> = Vec::new();
    for folder in ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        for entry in std::fs::read_dir(case.path().join(folder)).unwrap().map(Result::unwrap) {
            // Leaked: bytes of a program live as long as it does.
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            files.push((name.leak(), std::fs::read(entry.path()).unwrap().leak()));
        }
    }
    let options = EngineOptions { dtype: DType::F32, ..Default::default() };
    assert!(Engine::load(&gpu, &ModelFiles::Embedded(files.leak()), &options).is_ok());
    let other = EngineOptions { vae: Some(ModelFiles::Folder(case.path().join("vae"))), ..options };
    assert!(Engine::load(&gpu, &case.files(), &other).is_ok());
}
