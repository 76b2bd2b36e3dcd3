//! Networks at their full, published sizes against goldens that diffusers made: `make test-full`.
//!
//! Files of gigabytes are made from seeds where tests run, below `target/`, and kept. `make test` runs the same code on
//! the small networks of `tests/parity`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod checkpoint;
mod memory;

use std::time::{Duration, Instant};

use dreamglass_engine::frame::nhwc_from_nchw;
use dreamglass_engine::model::{AutoencoderConfig, TextConfig, UnetConfig};
use dreamglass_engine::{Network, UnetInputs};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::{Clocks, DType};
use dreamglass_tests::distance;

use checkpoint::Model;

/// Latent height and width with the timestep that `full.py` ran there.
const SIZES: [(u32, u32, f32); 2] = [(16, 16, 999.0), (24, 16, 499.0)];
/// Height and width of the picture that `full.py` gave an autoencoder.
const PICTURE: [usize; 2] = [64, 96];
/// Host memory beyond the mapped file and the adapter's own buffers that loading and running may take.
const HOST_BYTES: u64 = 300 << 20;

/// Largest relative L2 distance to diffusers' f32 over weights as f16 holds them.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F16 { 1e-2 } else { 2e-4 }
}

fn since_start() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// Runs `body` on the network in both storage types, each on a device of its own, under a watch on the memory; it
/// returns named pairs of ours and diffusers'.
fn compare<N>(
    name: &str,
    open: impl Fn() -> N,
    body: impl Fn(&N, &Gpu, DType) -> Vec<(String, Vec<f32>, Vec<f32>)>,
) {
    let mut failures = String::new();
    for dtype in [DType::F32, DType::F16] {
        let gpu = Gpu::open(&GpuOptions::default()).unwrap();
        gpu.set_clocks(Clocks { wall: since_start, thread: since_start });
        let watch = memory::Watch::begin(&gpu);
        let network = open();
        let pairs = body(&network, &gpu, dtype);
        // While the network's buffers are there: they go when the device is asked next.
        let host = watch.end();
        let counters = gpu.counters();
        let device = counters.allocated_bytes >> 20;
        let [load_ms, compile_ms] = [counters.weights_ns, counters.compile_ns].map(|ns| ns / 1_000_000);
        eprintln!("{name} {dtype}: weights {load_ms} ms, kernels {compile_ms} ms, device {device} MiB{host}");
        if host.beyond_bytes.is_some_and(|bytes| bytes > HOST_BYTES) {
            failures += &format!("{name} {dtype}: more than {} MiB of host memory{host}\n", HOST_BYTES >> 20);
        }
        for (what, ours, golden) in pairs {
            let distance = distance(&ours, &golden);
            eprintln!("{name} {dtype} {what}: {distance:.2e}");
            if distance > tolerance(dtype) {
                failures +=
                    &format!("{name} {dtype} {what}: {distance:.2e}, more than {}\n", tolerance(dtype));
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn unet(name: &str) {
    let model = Model::open(name);
    let open = || Network::<UnetConfig>::open(&model.files()).unwrap();
    compare(name, open, |unet, gpu, dtype| {
        let text =
            model.input("encoder_hidden_states", &[1, 77, unet.config().cross_attention_dim[0] as usize]);
        let guidance = model.stored("unet.timestep_cond");
        let run = |(h, w, timestep): (u32, u32, f32)| {
            let (key, shape) = (format!("{h}x{w}"), [1, 4, h as usize, w as usize]);
            let sample = nhwc_from_nchw(&model.input(&format!("sample.{key}"), &shape), shape);
            let inputs = UnetInputs {
                size: [1, h, w],
                sample: &sample,
                timesteps: &[timestep],
                text_embeddings: &text,
                guidance: guidance.as_deref(),
            };
            let ours = unet.predict(gpu, dtype, inputs).unwrap();
            let golden = model.stored(&format!("unet.noise_pred.{key}")).unwrap();
            (key, ours, nhwc_from_nchw(&golden, shape))
        };
        SIZES.into_iter().map(run).collect()
    });
}

fn text_encoder(name: &str) {
    let model = Model::open(name);
    let ids: Vec<u32> = model.stored("text_encoder.input_ids").unwrap().iter().map(|v| v.to_bits()).collect();
    let open = || Network::<TextConfig>::open(&model.files()).unwrap();
    compare(name, open, |text, gpu, dtype| {
        let ours = text.encode(gpu, dtype, &ids, 1).unwrap();
        vec![("hidden_states".into(), ours, model.stored("text_encoder.hidden_states").unwrap())]
    });
}

fn autoencoder(name: &str) {
    let model = Model::open(name);
    let open = || Network::<AutoencoderConfig>::open(&model.files()).unwrap();
    let [h, w] = PICTURE;
    let (picture, latents) = ([1, 3, h, w], [1, 4, h / 8, w / 8]);
    let size = |[n, _, h, w]: [usize; 4]| [n, h, w].map(|d| d as u32);
    let image: Vec<f32> = model.input("image", &picture).iter().map(|v| v / 2.0).collect();
    let image = nhwc_from_nchw(&image, picture);
    let noisy = nhwc_from_nchw(&model.input("latents", &latents), latents);
    let stored = |name: &str, shape| nhwc_from_nchw(&model.stored(name).unwrap(), shape);
    compare(name, open, |vae, gpu, dtype| {
        let encoded = vae.encode(gpu, dtype, &image, size(picture)).unwrap();
        let decoded = vae.decode(gpu, dtype, &noisy, size(latents)).unwrap();
        vec![
            ("latents".into(), encoded, stored("vae_encoder.latents", latents)),
            ("image".into(), decoded, stored("vae_decoder.image", picture)),
        ]
    });
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn autoencoder_kl() {
    autoencoder("lcm-sd15");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn unet_of_sd_turbo() {
    unet("sd-turbo");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn unet_of_sd15_lcm() {
    unet("lcm-sd15");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn unet_of_sdxs() {
    unet("sdxs-0.9");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn unet_of_sdxs_dreamshaper() {
    unet("sdxs-dreamshaper");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn openclip_h_text_encoder() {
    text_encoder("sd-turbo");
}

#[test]
#[ignore = "makes files of gigabytes: make test-full"]
fn clip_l_text_encoder() {
    text_encoder("lcm-sd15");
}
