//! `AutoencoderKL` in every form that files hold it, and what is refused.

use dreamglass_engine::model::AutoencoderConfig;
use dreamglass_engine::{ModelFiles, Network};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::case::Case;
use crate::files::{FileTensor, read, write};

const FILE: &str = "vae/diffusion_pytorch_model.safetensors";

/// The golden's tensors as `change` has them: another name or shape, or left out.
fn changed(case: &Case, change: impl Fn(FileTensor) -> Option<FileTensor>) -> Vec<FileTensor> {
    read(&case.path().join(FILE)).into_iter().filter_map(change).collect()
}

/// The name that a tensor had before diffusers 0.18, if it is one of an attention's projections.
fn old_name(name: &str) -> Option<String> {
    let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let (module, leaf) = name.rsplit_once('.')?;
    let (base, old) = names.iter().find_map(|(new, old)| Some((module.strip_suffix(new)?, old)))?;
    base.ends_with("attentions.0.").then(|| format!("{base}{old}.{leaf}"))
}

/// What is encoded and decoded with the autoencoder in `files`.
fn run(gpu: &Gpu, case: &Case, files: &ModelFiles) -> [Vec<f32>; 2] {
    let vae = Network::<AutoencoderConfig>::open(files).unwrap_or_else(|e| panic!("{e}"));
    assert!(vae.is_large());
    let (image, latents) = (case.tensor("vae_encoder.image"), case.tensor("vae_decoder.latents"));
    [
        vae.encode(gpu, DType::F32, &image.nhwc(), image.size()).unwrap(),
        vae.decode(gpu, DType::F32, &latents.nhwc(), latents.size()).unwrap(),
    ]
}

#[test]
fn old_names_and_files_without_a_config_give_the_same() {
    let (gpu, case) = (Gpu::open(&GpuOptions::default()).unwrap(), Case::open("vae_kl"));
    let expected = run(&gpu, &case, &case.files());
    // A file alone, from whose shapes the config follows, in diffusers' names.
    let alone = case.path().join("vae-alone.safetensors");
    write(&alone, Dtype::F32, &changed(&case, Some));
    assert_eq!(run(&gpu, &case, &ModelFiles::at(&alone).unwrap()), expected, "alone");
    // Names of before, in a folder and alone, with projections that are matrices or 1×1 convolutions.
    for kernel in [&[][..], &[1, 1]] {
        let old = changed(&case, |(name, mut shape, values)| {
            let Some(old) = old_name(&name) else { return Some((name, shape, values)) };
            if shape.len() == 2 {
                shape.extend(kernel);
            }
            Some((old, shape, values))
        });
        assert_eq!(old.iter().filter(|(name, ..)| name.contains(".proj_attn.")).count(), 4);
        write(&case.path().join(FILE), Dtype::F32, &old);
        assert_eq!(run(&gpu, &case, &case.files()), expected, "old names, {kernel:?}");
        write(&alone, Dtype::F32, &old);
        assert_eq!(run(&gpu, &case, &ModelFiles::at(&alone).unwrap()), expected, "old names alone");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let expect = |words: &[&str], change: &dyn Fn(FileTensor) -> Option<FileTensor>| {
        let case = Case::open("vae_kl");
        let tensors = changed(&case, change);
        write(&case.path().join(FILE), Dtype::F32, &tensors);
        let image = case.tensor("vae_encoder.image");
        let error = Network::<AutoencoderConfig>::open(&case.files())
            .and_then(|vae| vae.encode(&gpu, DType::F32, &image.nhwc(), image.size()))
            .unwrap_err()
            .to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    let query = "encoder.mid_block.attentions.0.to_q.weight";
    expect(&[query], &|tensor| (tensor.0 != query).then_some(tensor));
    // Mean and variance are eight; a file with the mean alone is another.
    expect(&["quant_conv.weight", "[8, 8, 1, 1]", "[4, 8, 1, 1]"], &|(name, mut shape, mut values)| {
        if name == "quant_conv.weight" {
            shape[0] = 4;
            values.truncate(32);
        }
        Some((name, shape, values))
    });
    expect(&["quant_conv.bias", "[8]", "[]"], &|(name, shape, values)| match name.as_str() {
        "quant_conv.bias" => Some((name, vec![], values[..1].to_vec())),
        _ => Some((name, shape, values)),
    });
}

#[test]
fn configs_that_are_not_supported_name_the_field() {
    let sound = json!({
        "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "layers_per_block": 1,
        "norm_num_groups": 32, "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    });
    let parse = |config: &Value| AutoencoderConfig::parse("config.json", config.to_string().as_bytes());
    let config = parse(&sound).unwrap();
    assert_eq!((config.factor(), config.latent_channels, config.scaling_factor), (2, 4, 0.18215));
    for (field, value) in [
        ("act_fn", json!("relu")),
        ("in_channels", json!(1)),
        ("out_channels", json!(4)),
        ("block_out_channels", json!([])),
        ("block_out_channels", json!([32, 32, 32, 32, 32, 32, 32])),
        ("block_out_channels", json!([32, 544])),
        ("block_out_channels", json!([32, 1_000_000])),
        ("down_block_types", json!(["DownEncoderBlock2D"])),
        ("down_block_types", json!(["DownEncoderBlock2D", "AttnDownEncoderBlock2D"])),
        ("up_block_types", json!("UpDecoderBlock2D")),
        ("layers_per_block", json!(0)),
        ("layers_per_block", json!(64)),
        ("norm_num_groups", json!(48)),
        ("latent_channels", json!(65)),
        ("scaling_factor", json!(0.13025)),
        ("scaling_factor", json!(-1)),
        ("shift_factor", json!(0.0609)),
        ("latents_mean", json!([0.1, 0.2, 0.3, 0.4])),
        ("use_quant_conv", json!("no")),
        ("mid_block_add_attention", json!(2)),
    ] {
        let mut damaged = sound.clone();
        damaged[field] = value.clone();
        let error = parse(&damaged).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")) && error.contains("config.json"), "{value}: {error}");
    }
    // Nothing published needs a wide head without an attention, but nothing is in its way.
    let mut wide = sound;
    (wide["block_out_channels"], wide["mid_block_add_attention"]) = (json!([32, 544]), json!(false));
    assert!(parse(&wide).is_ok());
}
