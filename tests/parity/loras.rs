//! LoRAs in every layout of names against what diffusers fuses.

use std::path::{Path, PathBuf};

use dreamglass_engine::model::UnetConfig;
use dreamglass_engine::{LoraFile, Network, UnetInputs};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_tests::{distance, weights};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::case::Case;
use crate::tolerance;

/// As `lora.py` made them.
const RANK: usize = 4;
const ALPHA: f32 = 2.0;
const GAIN: f32 = 0.1;
const ATTENTION_WEIGHT: f32 = 0.8;
const ALL_WEIGHT: f32 = -0.35;

/// Name, shape and values of a tensor to be written.
type FileTensor = (String, Vec<usize>, Vec<f32>);

/// A changed weight: its module, and both factors with their shapes.
struct Change {
    module: String,
    down: (Vec<usize>, Vec<f32>),
    up: (Vec<usize>, Vec<f32>),
}

/// What the LoRA `kind` changes in the golden's UNet.
fn changes(case: &Case, kind: &str) -> Vec<Change> {
    let projections = ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"];
    let is_changed = |name: &str, shape: &[usize]| {
        let is_inner =
            ["down_blocks.", "mid_block.", "up_blocks."].iter().any(|block| name.starts_with(block));
        let is_attention = name.contains("attn") && projections.iter().any(|end| name.ends_with(end));
        if kind == "attention" { is_attention } else { is_inner && shape.len() > 1 }
    };
    let list = std::fs::read(case.path().join("weights.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let mut changes = Vec::new();
    for row in &list {
        let name = row["name"].as_str().unwrap();
        let shape: Vec<usize> = serde_json::from_value(row["shape"].clone()).unwrap();
        if !is_changed(name, &shape) {
            continue;
        }
        let module = name.strip_suffix(".weight").unwrap().to_string();
        let factor = |end: &str, shape: Vec<usize>| {
            let values = weights::unit(&format!("lora.{kind}.{module}.{end}"), &shape);
            (shape, values.into_iter().map(|v| v * GAIN).collect())
        };
        let down = factor("down", [&[RANK], &shape[1..]].concat());
        let up = factor("up", [&[shape[0], RANK], &vec![1; shape.len() - 2][..]].concat());
        changes.push(Change { module, down, up });
    }
    assert!(changes.len() > 10, "{kind} changes {} weights", changes.len());
    changes
}

/// Both factors under the names that `names` makes of a module; alpha in the second where it has no tensor.
fn without_alpha(changes: &[Change], names: impl Fn(&str) -> [String; 2]) -> Vec<FileTensor> {
    let factors = changes.iter().flat_map(|Change { module, down, up }| {
        let [down_name, up_name] = names(module);
        let up_values = up.1.iter().map(|v| v * (ALPHA / RANK as f32)).collect();
        [(down_name, down.0.clone(), down.1.clone()), (up_name, up.0.clone(), up_values)]
    });
    factors.collect()
}

fn kohya(changes: &[Change]) -> Vec<FileTensor> {
    let factors = changes.iter().flat_map(|Change { module, down, up }| {
        let key = format!("lora_unet_{}", module.replace('.', "_"));
        [
            (format!("{key}.lora_down.weight"), down.0.clone(), down.1.clone()),
            (format!("{key}.lora_up.weight"), up.0.clone(), up.1.clone()),
            (format!("{key}.alpha"), vec![], vec![ALPHA]),
        ]
    });
    factors.collect()
}

fn peft(changes: &[Change]) -> Vec<FileTensor> {
    without_alpha(changes, |m| [format!("unet.{m}.lora_A.weight"), format!("unet.{m}.lora_B.weight")])
}

/// What diffusers wrote before 0.17.
fn legacy(changes: &[Change]) -> Vec<FileTensor> {
    without_alpha(changes, |module| {
        let (parent, projection) = module.trim_end_matches(".0").rsplit_once('.').unwrap();
        ["down", "up"].map(|end| format!("unet.{parent}.processor.{projection}_lora.{end}.weight"))
    })
}

fn write(folder: &Path, name: &str, tensors: &[FileTensor]) -> PathBuf {
    let path = folder.join(name);
    let views = tensors.iter().map(|(name, shape, values)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}

/// noise_pred of the golden's UNet with `loras`.
fn predict(gpu: &Gpu, case: &Case, dtype: DType, loras: &[LoraFile]) -> Vec<f32> {
    let mut unet = Network::<UnetConfig>::open(&case.files()).unwrap();
    for lora in loras {
        unet.fuse(lora).unwrap();
    }
    let sample = case.tensor("lora.sample");
    let inputs = UnetInputs {
        size: sample.size(),
        sample: &sample.nhwc(),
        timesteps: &[499.0],
        text_embeddings: &case.tensor("lora.encoder_hidden_states").f32(),
        guidance: None,
    };
    unet.predict(gpu, dtype, inputs).unwrap()
}

#[test]
fn every_layout_fuses_as_in_diffusers() {
    let case = Case::open("lora");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, tensors: &[FileTensor], weight: f32| LoraFile {
        path: write(folder.path(), name, tensors),
        weight,
    };
    let (attention, all) = (changes(&case, "attention"), changes(&case, "all"));
    let kohya_attention = file("a", &kohya(&attention), ATTENTION_WEIGHT);
    let peft_all = file("b", &peft(&all), ALL_WEIGHT);
    let runs = [
        ("base", vec![]),
        ("attention", vec![kohya_attention.clone()]),
        ("attention", vec![file("c", &peft(&attention), ATTENTION_WEIGHT)]),
        ("attention", vec![file("d", &legacy(&attention), ATTENTION_WEIGHT)]),
        ("all", vec![file("e", &kohya(&all), ALL_WEIGHT)]),
        ("all", vec![peft_all.clone()]),
        ("both", vec![kohya_attention.clone(), peft_all.clone()]),
        // A LoRA at no weight changes nothing; taken twice with opposite weights, neither.
        ("base", vec![LoraFile { weight: 0.0, ..kohya_attention.clone() }]),
        (
            "all",
            vec![
                peft_all,
                kohya_attention.clone(),
                LoraFile { weight: -ATTENTION_WEIGHT, ..kohya_attention },
            ],
        ),
    ];
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    for (golden, loras) in &runs {
        for dtype in [DType::F32, DType::F16] {
            let ours = predict(&gpu, &case, dtype, loras);
            let expected = case.tensor(&format!("lora.{golden}")).nhwc();
            let distance = distance(&ours, &expected);
            let files: Vec<_> = loras.iter().map(|l| (l.path.file_name().unwrap(), l.weight)).collect();
            assert!(distance <= tolerance(dtype), "{golden} {dtype} {files:?}: {distance:.2e}");
        }
    }
    // The goldens differ by far more than the bound.
    for golden in ["attention", "all", "both"] {
        let [base, changed] = ["base", golden].map(|name| case.tensor(&format!("lora.{name}")).nhwc());
        assert!(distance(&changed, &base) > 0.05, "{golden}");
    }
}

#[test]
fn a_lora_for_another_model_is_refused_by_name() {
    let case = Case::open("lora");
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = kohya(&changes(&case, "attention"));
    let key = "lora_unet_down_blocks_7_attentions_0_transformer_blocks_0_attn1_to_q";
    tensors.push((format!("{key}.lora_down.weight"), vec![RANK, 64], vec![0.5; RANK * 64]));
    let path = write(folder.path(), "other.safetensors", &tensors);
    let mut unet = Network::<UnetConfig>::open(&case.files()).unwrap();
    let refused = unet.fuse(&LoraFile { path, weight: 1.0 }).unwrap_err().to_string();
    assert!(refused.contains("other.safetensors") && refused.contains(key), "{refused}");
    assert!(refused.contains("matches no weight of this model's UNet"), "{refused}");
}
