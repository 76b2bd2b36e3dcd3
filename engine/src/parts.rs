//! Single networks and traced runs on host tensors, for comparing with other implementations.
//!
//! Tensors are f32 in `[N,H,W,C]` order without padding. Nothing here is on a frame's way.

use dreamglass_kernels::exec::Executable;
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::{DType, Shape};

use crate::engine::{Engine, NoiseSource};
use crate::error::EngineError;
use crate::frame::error;
use crate::model::{AutoencoderConfig, TextConfig, UnetConfig};
use crate::networks::Network;
use crate::plans::{self, Source};
use crate::settings::Settings;

/// What one picture went through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// Encoded latents `[1,h,w,C]`, not scaled.
    pub latents: Vec<f32>,
    /// The first sample, noised, `[1,h,w,C]`.
    pub sample: Vec<f32>,
    /// The UNet's output of each step (without guidance) `[1,h,w,C]`.
    pub noise_preds: Vec<Vec<f32>>,
    /// The sample after each step, the last one the clean latents, `[1,h,w,C]`.
    pub next: Vec<Vec<f32>>,
    /// The picture `[1,H,W,3]` in about [−1, 1].
    pub picture: Vec<f32>,
}

/// Inputs of one UNet call.
#[derive(Debug, Clone, Copy)]
pub struct UnetInputs<'a> {
    /// Rows, and latent height and width: `[N, h, w]`.
    pub size: [u32; 3],
    /// The sample `[N,h,w,in_channels]`.
    pub sample: &'a [f32],
    /// One timestep per row.
    pub timesteps: &'a [f32],
    /// Text embeddings `[N,T,C]`.
    pub text_embeddings: &'a [f32],
    /// Guidance embeddings `[N, time_cond_proj_dim]` for models that have them.
    pub guidance: Option<&'a [f32]>,
}

impl Network<TextConfig> {
    /// Ids of `n` prompts of equal length to text embeddings `[n,T,hidden_size]`.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] when the ids do not split into `n` prompts of a length that the
    /// model takes or an id is not in its vocabulary; [`EngineError`] of the weights;
    /// [`EngineError::Kernel`].
    pub fn encode(&self, gpu: &Gpu, dtype: DType, ids: &[u32], n: u32) -> Result<Vec<f32>, EngineError> {
        let config = &self.config;
        let tokens = ids.len() as u32 / n.max(1);
        let fits = n > 0 && tokens * n == ids.len() as u32 && (1..=config.max_tokens).contains(&tokens);
        if !fits || ids.iter().any(|&id| id >= config.vocab_size) {
            let message = format!("{} ids do not make {n} prompts for this text encoder", ids.len());
            return Err(EngineError::Prompt { message });
        }
        let plan = plans::text(gpu.target(), config, self.prefix(), [n, tokens], dtype)?;
        let text = self.prepare(gpu, plan, &[])?;
        text.tensor(plans::IDS)?.write_u32(ids)?;
        run(&text, plans::TEXT_EMBEDDINGS)
    }
}

impl Network<AutoencoderConfig> {
    /// Pictures `[n,H,W,3]` in [−1, 1] to latents `[n,h,w,C]`, not scaled; `size` is `[n, H, W]`.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when the length does not fit, [`EngineError`] of the weights,
    /// [`EngineError::Kernel`].
    pub fn encode(
        &self,
        gpu: &Gpu,
        dtype: DType,
        picture: &[f32],
        [n, h, w]: [u32; 3],
    ) -> Result<Vec<f32>, EngineError> {
        let shape = Shape::new(n, h, w, 3);
        check("picture", picture, shape)?;
        let plan = plans::encode(gpu.target(), &self.config, shape, dtype)?;
        let encoder = self.prepare(gpu, plan, &[])?;
        encoder.tensor(plans::PICTURE)?.write_f32(picture)?;
        run(&encoder, plans::LATENTS)
    }

    /// Latents `[n,h,w,C]`, not scaled, to pictures `[n,H,W,3]`; `size` is `[n, h, w]`.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when the length does not fit, [`EngineError`] of the weights,
    /// [`EngineError::Kernel`].
    pub fn decode(
        &self,
        gpu: &Gpu,
        dtype: DType,
        latents: &[f32],
        [n, h, w]: [u32; 3],
    ) -> Result<Vec<f32>, EngineError> {
        let shape = Shape::new(n, h, w, self.config.latent_channels);
        check("latents", latents, shape)?;
        let plan = plans::end(gpu.target(), &self.config, shape, 1.0, dtype)?;
        let decoder = self.prepare(gpu, plan, &[])?;
        decoder.tensor(plans::NEXT)?.write_f32(latents)?;
        run(&decoder, plans::PICTURE)
    }
}

impl Network<UnetConfig> {
    /// One call: noise_pred `[N,h,w,out_channels]`.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when a length does not fit, [`EngineError`] of the weights,
    /// [`EngineError::Kernel`].
    pub fn predict(&self, gpu: &Gpu, dtype: DType, inputs: UnetInputs<'_>) -> Result<Vec<f32>, EngineError> {
        let (config, target) = (&self.config, gpu.target());
        let [n, h, w] = inputs.size;
        let shape = Shape::new(n, h, w, config.in_channels);
        check("sample", inputs.sample, shape)?;
        let tokens = inputs.text_embeddings.len() / (n * config.cross_attention_dim[0]).max(1) as usize;
        let time = self.time(gpu, dtype, n, inputs.timesteps, inputs.guidance)?;
        let prompt = self.prompt(gpu, dtype, [n, tokens as u32], inputs.text_embeddings)?;
        let denoise = plans::denoise(target, config, shape, tokens as u32, false, dtype)?;
        let denoise = self.prepare(gpu, denoise, &[&time, &prompt])?;
        denoise.tensor(plans::SAMPLE)?.write_f32(inputs.sample)?;
        denoise.tensor(plans::INPUT)?.write_f32(&vec![1.0; n as usize])?;
        run(&denoise, plans::NOISE_PRED)
    }

    /// The time embeddings of `n` rows, computed.
    fn time(
        &self,
        gpu: &Gpu,
        dtype: DType,
        n: u32,
        timesteps: &[f32],
        guidance: Option<&[f32]>,
    ) -> Result<Executable, EngineError> {
        check("timesteps", timesteps, Shape::vector(n, 1))?;
        let time = self.prepare(gpu, plans::time(gpu.target(), &self.config, n, "", dtype)?, &[])?;
        time.tensor(plans::TIMESTEP)?.write_f32(timesteps)?;
        if let Some(dim) = self.config.time_cond_proj_dim {
            let zeros = vec![0.0; (n * dim) as usize];
            let guidance = guidance.unwrap_or(&zeros);
            check("guidance", guidance, Shape::vector(n, dim))?;
            time.tensor(plans::GUIDANCE)?.write_f32(guidance)?;
        }
        time.run()?;
        Ok(time)
    }

    /// Keys and values of `n` prompts of `tokens` tokens, computed.
    fn prompt(
        &self,
        gpu: &Gpu,
        dtype: DType,
        [n, tokens]: [u32; 2],
        embeddings: &[f32],
    ) -> Result<Executable, EngineError> {
        let shape = Shape::tokens(n, tokens, self.config.cross_attention_dim[0]);
        check("text embeddings", embeddings, shape)?;
        let plan = plans::prompt(gpu.target(), &self.config, shape, "", dtype)?;
        let prompt = self.prepare(gpu, plan, &[])?;
        prompt.tensor(plans::TEXT_EMBEDDINGS)?.write_f32(embeddings)?;
        prompt.run()?;
        Ok(prompt)
    }
}

impl Engine {
    /// [`Network::<TextConfig>::encode`] of this engine's text encoder.
    ///
    /// # Errors
    /// As there.
    pub fn text_encode(&self, ids: &[u32], n: u32) -> Result<Vec<f32>, EngineError> {
        self.networks.text.encode(&self.gpu, self.dtype, ids, n)
    }
    /// [`Network::<AutoencoderConfig>::encode`] of this engine's autoencoder.
    ///
    /// # Errors
    /// As there.
    pub fn vae_encode(&self, picture: &[f32], size: [u32; 3]) -> Result<Vec<f32>, EngineError> {
        self.networks.vae.encode(&self.gpu, self.dtype, picture, size)
    }
    /// [`Network::<AutoencoderConfig>::decode`] of this engine's autoencoder.
    ///
    /// # Errors
    /// As there.
    pub fn vae_decode(&self, latents: &[f32], size: [u32; 3]) -> Result<Vec<f32>, EngineError> {
        self.networks.vae.decode(&self.gpu, self.dtype, latents, size)
    }
    /// [`Network::<UnetConfig>::predict`] of this engine's UNet.
    ///
    /// # Errors
    /// As there.
    pub fn unet(&self, inputs: UnetInputs<'_>) -> Result<Vec<f32>, EngineError> {
        self.networks.unet.predict(&self.gpu, self.dtype, inputs)
    }

    /// Image-to-image on a picture `[1,H,W,3]` in [−1, 1] of `settings.size`, with every
    /// intermediate read back. `noises[0]` noises the first sample, `noises[k]` is added by step k;
    /// without any, `settings.seed` makes them.
    ///
    /// # Errors
    /// As [`Engine::img2img`]; [`EngineError::Frame`] when a length does not fit.
    pub fn img2img_tensors(
        &mut self,
        picture: &[f32],
        noises: &[Vec<f32>],
        settings: &Settings,
    ) -> Result<Trace, EngineError> {
        let schedule = self.prepare(Source::Tensor, settings)?;
        let input = self.begin_tensor(plans::PICTURE)?;
        check("picture", picture, input.shape)?;
        input.write_f32(picture)?;
        let noise = match noises {
            [] => NoiseSource::Seed(settings.seed),
            given => NoiseSource::Given(given),
        };
        let mut trace = Trace::default();
        self.run(&schedule, settings, noise, |denoise| {
            if trace.noise_preds.is_empty() {
                trace.sample = denoise.tensor(plans::SAMPLE)?.read_f32()?;
            }
            trace.noise_preds.push(denoise.tensor(plans::NOISE_PRED)?.read_f32()?);
            trace.next.push(denoise.tensor(plans::NEXT)?.read_f32()?);
            Ok(())
        })?;
        trace.latents = self.begin_tensor(plans::LATENTS)?.read_f32()?;
        trace.picture = self.end_tensor(plans::PICTURE)?.read_f32()?;
        self.gpu.check()?;
        Ok(trace)
    }

    /// Storage type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Runs and reads one output.
fn run(executable: &Executable, output: &str) -> Result<Vec<f32>, EngineError> {
    executable.run()?;
    Ok(executable.tensor(output)?.read_f32()?)
}

fn check(what: &str, values: &[f32], shape: Shape) -> Result<(), EngineError> {
    if values.is_empty() || values.len() as u64 != shape.elements() {
        return Err(error(format!("{what}: expected {shape}, got {} values", values.len())));
    }
    Ok(())
}
