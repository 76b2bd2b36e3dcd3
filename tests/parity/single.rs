//! Files of one piece in the names of other programs, against what diffusers makes of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dreamglass_engine::frame::nhwc_from_nchw;
use dreamglass_engine::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use dreamglass_engine::text::Tokenizer;
use dreamglass_engine::{ModelFiles, Network, UnetInputs};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_tests::{distance, weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Both compute in f32, in another order.
const TOLERANCE: f64 = 1e-4;

/// Name and shape of a tensor of a file.
type Row = (String, Vec<usize>);

/// A file as `single.py` lists it, and what diffusers computed with it.
struct Single {
    folder: tempfile::TempDir,
    rows: Vec<Row>,
    reference: Vec<u8>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/single").join(name)
}

fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let is_plain = shape.len() > 1 || name.ends_with(".weight") || name.ends_with(".bias");
    weights::tensor(&if is_plain { name.to_string() } else { format!("{name}.bias") }, shape)
}

impl Single {
    fn open(name: &str) -> Self {
        let rows =
            serde_json::from_slice(&std::fs::read(golden(name).join("tensors.json")).unwrap()).unwrap();
        let reference = std::fs::read(golden(name).join("reference.safetensors")).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), rows, reference }
    }
    /// Writes `rows` under the names that `rename` gives them, if any, and what the file says about itself.
    fn write_as(
        &self,
        file: &str,
        rows: &[Row],
        rename: impl Fn(&str) -> Option<String>,
        metadata: &[(&str, &str)],
    ) -> PathBuf {
        let path = self.folder.path().join(file);
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = rows
            .iter()
            .filter_map(|(name, shape)| {
                Some((rename(name)?, shape.clone(), bytemuck::cast_slice(&values(name, shape)).to_vec()))
            })
            .collect();
        let views =
            bytes.iter().map(|(n, shape, b)| (n, TensorView::new(Dtype::F32, shape.clone(), b).unwrap()));
        let metadata: HashMap<String, String> =
            metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        safetensors::serialize_to_file(views, Some(metadata), &path).unwrap();
        path
    }
    fn write(&self, file: &str, rows: &[Row]) -> PathBuf {
        self.write_as(file, rows, |name| Some(name.into()), &[])
    }
    fn whole(&self) -> ModelFiles {
        ModelFiles::at(&self.write("model.safetensors", &self.rows)).unwrap()
    }
    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.reference).unwrap().tensor(name).unwrap().shape().to_vec()
    }
    fn words(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.reference).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }
    fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_bits).collect()
    }
    /// A picture or latents in our order, and their `[N,H,W]`.
    fn nhwc(&self, name: &str) -> (Vec<f32>, [u32; 3]) {
        let [n, c, h, w] = self.shape(name)[..] else { panic!("{name} is no picture") };
        (nhwc_from_nchw(&self.f32(name), [n, c, h, w]), [n, h, w].map(|d| d as u32))
    }
}

fn gpu() -> Gpu {
    Gpu::open(&GpuOptions::default()).unwrap()
}

#[track_caller]
fn assert_near(what: &str, ours: &[f32], golden: &[f32]) {
    let distance = distance(ours, golden);
    eprintln!("{what}: {distance:.1e}");
    assert!(distance <= TOLERANCE, "{what}: {distance:.1e}, more than {TOLERANCE:.0e}");
}

/// UNet and text encoder of a whole model against diffusers'.
fn compare(case: &Single, files: &ModelFiles) {
    let gpu = gpu();
    let unet = Network::<UnetConfig>::open(files).unwrap();
    let (sample, size) = case.nhwc("unet.sample");
    let inputs = UnetInputs {
        size,
        sample: &sample,
        timesteps: &[499.0],
        text_embeddings: &case.f32("unet.encoder_hidden_states"),
        guidance: None,
    };
    let ours = unet.predict(&gpu, DType::F32, inputs).unwrap();
    assert_near("unet", &ours, &case.nhwc("unet.noise_pred").0);
    let text = Network::<TextConfig>::open(files).unwrap();
    let ours = text.encode(&gpu, DType::F32, &case.words("text_encoder.input_ids"), 1).unwrap();
    assert_near("text encoder", &ours, &case.f32("text_encoder.hidden_states"));
}

/// The autoencoder in `files` against diffusers'.
fn compare_autoencoder(gpu: &Gpu, case: &Single, files: &ModelFiles) {
    let vae = Network::<AutoencoderConfig>::open(files).unwrap();
    let (image, size) = case.nhwc("vae_encoder.image");
    let encoded = vae.encode(gpu, DType::F32, &image, size).unwrap();
    let (latents, size) = case.nhwc("vae_decoder.latents");
    let decoded = vae.decode(gpu, DType::F32, &latents, size).unwrap();
    assert_near("encoder", &encoded, &case.nhwc("vae_encoder.latents").0);
    assert_near("decoder", &decoded, &case.nhwc("vae_decoder.image").0);
}

fn scheduler(files: &ModelFiles) -> SchedulerConfig {
    let name = "scheduler/scheduler_config.json";
    SchedulerConfig::parse(name, &files.require(name).unwrap()).unwrap()
}

#[test]
fn a_file_of_sd1_is_what_diffusers_makes_of_it() {
    let case = Single::open("sd1");
    let files = case.whole();
    compare(&case, &files);
    assert_eq!(scheduler(&files), SchedulerConfig { class: "PNDMScheduler".into(), ..Default::default() });
}

#[test]
fn a_file_of_sd2_is_what_diffusers_makes_of_it() {
    let case = Single::open("sd2");
    let files = case.whole();
    compare(&case, &files);
    let text = Network::<TextConfig>::open(&files).unwrap();
    assert_eq!((text.config().layers, text.config().heads), (2, 16), "the last layer is not read");
}

#[test]
fn what_a_model_of_sd2_predicts_is_found_out() {
    let case = Single::open("sd2");
    let predicts = |name: &str, rows: &[Row], metadata: &[(&str, &str)]| {
        let path = case.write_as(name, rows, |name| Some(name.into()), metadata);
        let scheduler = scheduler(&ModelFiles::at(&path).unwrap());
        (format!("{:?}", scheduler.prediction), scheduler.class)
    };
    let velocity = |class: &str| ("Velocity".to_string(), class.to_string());
    let epsilon = |class: &str| ("Epsilon".to_string(), class.to_string());
    // Seeded biases are uniform in ±0.1, so that they spread by 0.058.
    assert_eq!(predicts("a.safetensors", &case.rows, &[]), epsilon("PNDMScheduler"));
    assert_eq!(predicts("sd_Turbo.safetensors", &case.rows, &[]), epsilon("EulerDiscreteScheduler"));
    let says = [("modelspec.prediction_type", "v")];
    assert_eq!(predicts("b.safetensors", &case.rows, &says), velocity("PNDMScheduler"));
    // A tensor that spreads further: the same name with weights of one value a row.
    let name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";
    let path = case.write("c.safetensors", &case.rows);
    let mut bytes = std::fs::read(&path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (begin, end) = metadata.info(name).unwrap().data_offsets;
    for at in (header + 8 + begin..header + 8 + end).step_by(4) {
        let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(value * 3.0).to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let files = ModelFiles::at(&path).unwrap();
    assert_eq!(format!("{:?}", scheduler(&files).prediction), "Velocity");
}

#[test]
fn an_embedded_guidance_is_found() {
    let case = Single::open("sd1");
    let mut rows = case.rows.clone();
    rows.push(("model.diffusion_model.time_embed.cond_proj.weight".into(), vec![32, 16]));
    let files = ModelFiles::at(&case.write("lcm.safetensors", &rows)).unwrap();
    assert_eq!(Network::<UnetConfig>::open(&files).unwrap().config().time_cond_proj_dim, Some(16));
    assert_eq!(scheduler(&files).class, "LCMScheduler");
}

#[test]
fn prompts_get_the_ids_of_the_published_vocabulary() {
    let case = Single::open("sd1");
    let tokenizer = Tokenizer::open(&case.whole(), 77, 49_408).unwrap();
    let golden: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(golden("prompts.json")).unwrap()).unwrap();
    assert!(golden.len() > 5);
    for row in golden {
        let prompt = row["prompt"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        let mut expected = vec![49_406];
        expected.extend(&ids);
        expected.resize(77, 49_407);
        assert_eq!(tokenizer.encode(prompt).unwrap().ids, expected, "{prompt}");
    }
    // SD 2.x fills up with the first token of the vocabulary.
    let case = Single::open("sd2");
    let ids = Tokenizer::open(&case.whole(), 77, 49_408).unwrap().encode("a cat").unwrap().ids;
    assert_eq!(ids[..5], [49_406, 320, 2368, 49_407, 0]);
}

#[test]
fn taesd_is_read_from_its_own_files() {
    let case = Single::open("taesd");
    for half in ["encoder", "decoder"] {
        let own = |name: &str| Some(name.strip_prefix(half)?.strip_prefix('.')?.to_string());
        case.write_as(&format!("taesd_{half}.safetensors"), &case.rows, own, &[]);
    }
    let own = ModelFiles::at(case.folder.path()).unwrap();
    // ComfyUI's, in one file.
    let joined = case.write_as("joined.safetensors", &case.rows, |name| Some(format!("taesd_{name}")), &[]);
    let gpu = gpu();
    for files in [own, ModelFiles::at(&joined).unwrap()] {
        compare_autoencoder(&gpu, &case, &files);
    }
}

#[test]
fn a_large_autoencoder_is_read_from_a_whole_model_and_alone() {
    let (gpu, case) = (gpu(), Single::open("sd1"));
    compare_autoencoder(&gpu, &case, &case.whole());
    // As it is, and without the prefix, as vae-ft-mse-840000 has it; training left its losses there.
    let prefix = "first_stage_model.";
    let only = |name: &str| name.starts_with(prefix).then(|| name.to_string());
    let bare = |name: &str| name.strip_prefix(prefix).map(String::from);
    let mut rows = case.rows.clone();
    rows.push((format!("{prefix}loss.logvar"), vec![1]));
    for path in [
        case.write_as("only.safetensors", &case.rows, only, &[]),
        case.write_as("bare.safetensors", &rows, bare, &[]),
    ] {
        compare_autoencoder(&gpu, &case, &ModelFiles::at(&path).unwrap());
    }
}

/// Why the tensors of `rows` are refused.
fn refusal(case: &Single, rows: &[Row]) -> String {
    match ModelFiles::at(&case.write("refused.safetensors", rows)) {
        Err(error) => error.to_string(),
        Ok(files) => {
            let unet = Network::<UnetConfig>::open(&files).map(drop);
            let text = Network::<TextConfig>::open(&files).map(drop);
            let vae = Network::<AutoencoderConfig>::open(&files).map(drop);
            unet.and(text).and(vae).unwrap_err().to_string()
        }
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let case = Single::open("sd1");
    let only = |names: &[&str]| -> Vec<Row> { names.iter().map(|n| (n.to_string(), vec![4, 4])).collect() };
    let without = |start: &str| -> Vec<Row> {
        case.rows.iter().filter(|(name, _)| !name.starts_with(start)).cloned().collect()
    };
    let mut sdxl = case.rows.clone();
    sdxl.push(("conditioner.embedders.0.transformer.weight".into(), vec![4, 4]));
    let mut upscaler = case.rows.clone();
    upscaler.push(("model.diffusion_model.label_emb.weight".into(), vec![4, 4]));
    for (rows, wanted) in [
        (sdxl, "is a checkpoint of SDXL"),
        (upscaler, "`label_emb`"),
        (only(&["lora_unet_a.lora_down.weight"]), "is a LoRA"),
        (only(&["double_blocks.0.weight"]), "Flux"),
        (only(&["something.weight"]), "no network that is known here"),
        (without("cond_stage_model."), "holds no text encoder"),
        (without("first_stage_model."), "holds no autoencoder"),
        (without("model.diffusion_model.out.2"), "`model.diffusion_model.out.2.weight`, from which"),
        (without("first_stage_model.decoder.conv_in"), "decoder.conv_in.weight`, from which"),
    ] {
        let message = refusal(&case, &rows);
        assert!(message.contains(wanted), "{message} lacks {wanted}");
        assert!(message.contains("refused.safetensors"), "{message}");
    }
    let missing = ModelFiles::at(&case.folder.path().join("nothing.safetensors")).unwrap_err().to_string();
    assert!(missing.contains("nothing.safetensors: there is no such file"), "{missing}");
    std::fs::write(case.folder.path().join("a.ckpt"), b"PK").unwrap();
    let pickle = ModelFiles::at(&case.folder.path().join("a.ckpt")).unwrap_err().to_string();
    assert!(pickle.contains("pickled") && pickle.contains(".safetensors"), "{pickle}");
}
