//! The command line, and the help that teaches it.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dreamglass_engine::kernels::gpu::AdapterChoice;
use dreamglass_engine::params::{Field, Kind, Value};
use dreamglass_engine::{LoraFile, Size};

use crate::commands::bench::{self, BenchArgs};
use crate::commands::models::{self, ModelsCommand};
use crate::commands::serve::{self, ServeArgs};
use crate::commands::tune::{self, TuneArgs};
use crate::model::EMBEDDED_NAME;
use crate::parameters::ParameterArgs;
use crate::preset::Configuration;
use crate::repository;
use crate::sink::window::{Presenting, SourceView};

const EXAMPLES: &str = "\
Examples:
  dreamglass image photo.jpg -o out.png --look watercolour
  dreamglass image photo.jpg -o out.png --prompt \"a charcoal drawing of a street\" --seed 7
  dreamglass video clip.mp4 -o out.mp4 --look neon --size 512x288
  dreamglass video clip.mp4 -o out.mp4 --model ~/models/lcm-sd15 --prompt @prompt.txt --steps 4
  dreamglass live
  dreamglass live --source screen --look comic --output recording.mp4
  dreamglass serve --look neon
  dreamglass looks
  dreamglass models pull sd-turbo
  dreamglass devices
  dreamglass bench --size 512x512 --json figures.json --report report.html
  dreamglass tune --size 512x512
  dreamglass verify --model ~/models/lcm-sd15 --reference reference.safetensors

Models are folders in diffusers' layout with safetensors weights, files of a whole model, or names of
what `dreamglass models pull` downloaded; without --model the small model inside the program is used. Exit codes: 0 done, 1 the run failed, 2 bad arguments or
files, 130 ended by Ctrl-C.";

const PICTURE_EXAMPLES: &str = "\
Examples:
  dreamglass image photo.jpg -o out.png
  dreamglass image photo.jpg -o out.webp --look \"stained glass\" --size 512x512
  dreamglass image photo.jpg -o out.png --prompt \"an oil painting\" --strength 0.8 --steps 2

Reads PNG, JPEG, WebP, BMP, GIF (its first frame) and TIFF, turned upright by their EXIF
orientation. The extension of OUT chooses the format: png, jpg, webp, bmp, gif or tiff.";

const VIDEO_EXAMPLES: &str = "\
Examples:
  dreamglass video clip.mp4 -o out.mp4 --look comic
  dreamglass video clip.mov -o out.mkv --prompt \"a copper engraving\" --size 512x512 --fit crop

Needs ffmpeg and ffprobe on the PATH. Frame rate and audio are kept. Ctrl-C ends the file after
the current frame and leaves it playable; an existing OUT is replaced only by a finished one.";

const LIVE_HELP: &str = "\
Examples:
  dreamglass live
  dreamglass live --source camera:1 --look neon --size 512x512
  dreamglass live --source screen:1280x720+0+0 --prompt \"a watercolour\" --mirror=off
  dreamglass live --source party.mp4 --output wall.mp4 --full-screen
  dreamglass live --source rtsp://camera.local/stream --no-window --output /dev/video10

SOURCE: camera, camera:1, camera:NAME, screen, screen:WxH+X+Y, synthetic, synthetic:WxH@FPS, a
video, a picture, a folder of pictures, or a URL that ffmpeg reads (http, rtsp, rtmp, udp, srt).
OUT: a video (.mp4, .mov, .m4v, .mkv), numbered pictures (frames/%06d.png or a folder), a video
device (/dev/video10) or null.

Every parameter below can be changed in the window while the stream runs, and saved as a preset.
live.toml holds the same words: model, adapter, source, output, preset, look, and a table
[parameters] with strength = 0.6 and so on. Options go before the environment (DREAMGLASS_STRENGTH
...), that before live.toml, that before the preset, and all before what the model suggests.

Keys: 1-9 0 looks, left and right strength, R seed, S source, P panel, F full screen, C snapshot,
V record, Space hold, M mirror, Esc or Q quit.

Exit codes: 0 the window was closed or the source ended, 1 the run failed, 2 bad arguments or
files, 130 ended by Ctrl-C.";

const VERIFY_HELP: &str = "\
The reference file holds f32 tensors in diffusers' NCHW order; each network whose tensors are
present is checked:
  text_encoder.input_ids                              -> text_encoder.hidden_states
  vae_encoder.image                                   -> vae_encoder.latents
  vae_decoder.latents                                 -> vae_decoder.image
  unet.sample, unet.timestep,
  unet.encoder_hidden_states[, unet.timestep_cond]    -> unet.noise_pred
  img2img.image, img2img.noise [N,...]                -> img2img.output
Pictures are in [-1,1]. img2img reads prompt, negative, steps, strength, guidance, sampler
(lcm, euler or tcd), eta and strength_rule (lcm or img2img) from the file's metadata.

Exit codes: 0 all within tolerance, 1 some outside, 2 bad input.";

/// Turns pictures and video into other ones with an image-to-image model on any GPU.
#[derive(Debug, Parser)]
#[command(name = "dreamglass", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stylise one picture
    #[command(after_help = PICTURE_EXAMPLES)]
    Image(ImageArgs),
    /// Stylise a video file through the system's ffmpeg
    #[command(after_help = VIDEO_EXAMPLES)]
    Video(VideoArgs),
    /// Show a live stylised picture in a window
    #[command(after_help = LIVE_HELP)]
    Live(Box<LiveArgs>),
    /// Serve a live stylised picture to browsers, and take theirs
    #[command(after_help = serve::HELP)]
    Serve(Box<ServeArgs>),
    /// List the cameras that `live --source` chooses from
    Cameras,
    /// List the looks that a model names, for --look
    Looks(LooksArgs),
    /// Download models from the Hugging Face hub, list, describe and remove them
    #[command(subcommand, after_help = models::HELP)]
    Models(ModelsCommand),
    /// List the adapters that --adapter chooses from
    Devices(DevicesArgs),
    /// Measure the stream on this device: where a frame's time goes, and how close to the limits
    #[command(after_help = bench::HELP)]
    Bench(BenchArgs),
    /// Find the kernels that are fastest on this device, and keep them
    #[command(after_help = tune::HELP)]
    Tune(TuneArgs),
    /// Compare a model with reference tensors made by diffusers
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Picture to read
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Picture to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<false>,
}

#[derive(Debug, Args)]
pub struct VideoArgs {
    /// Video to read: anything that ffmpeg decodes
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Video to write: .mp4, .mov, .m4v or .mkv
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Stop after this many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<false>,
}

#[derive(Debug, Args)]
pub struct LiveArgs {
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Where pictures go besides the window, see below; may be given several times
    #[arg(short, long, value_name = "OUT")]
    pub output: Vec<String>,
    /// Open no window
    #[arg(long)]
    pub no_window: bool,
    /// Fill the screen
    #[arg(long)]
    pub full_screen: bool,
    /// Open the window without its panel (P shows it)
    #[arg(long)]
    pub no_panel: bool,
    /// Where the window shows the source (S changes it)
    #[arg(long, value_name = "WHERE", default_value = "hidden")]
    pub show_source: SourceView,
    /// How pictures reach the window
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub present: Presenting,
    /// End after this many pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// Read videos and slide shows once, not for ever
    #[arg(long)]
    pub once: bool,
    /// Configuration [default: live.toml in the user's configuration folder, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<true>,
}

/// Where frames come from.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Where frames come from, see below [default: the first camera, else the clip in the program]
    #[arg(short, long, value_name = "SOURCE", env = "DREAMGLASS_SOURCE", hide_env = true)]
    pub source: Option<String>,
    /// Size that a camera is asked for; it comes as near as it can
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub capture_size: Option<Size>,
    /// Frames per second that a camera or screen is asked for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=240))]
    pub capture_fps: Option<u32>,
    /// Seconds that a slide show shows each picture
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = seconds)]
    pub slide_time: f64,
}

impl CaptureArgs {
    /// The source that was asked for.
    pub fn said<'a>(&'a self, configuration: &'a Configuration) -> Option<&'a str> {
        self.source.as_deref().or(configuration.source.as_deref())
    }
}

#[derive(Debug, Args)]
pub struct LooksArgs {
    /// Model folder or file, name of one that was pulled, or `demo` for the one inside the program
    #[arg(long, value_name = "PATH", default_value = "demo")]
    pub model: PathBuf,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Safetensors file of inputs and expected outputs
    #[arg(long, value_name = "FILE")]
    pub reference: PathBuf,
    /// Largest relative L2 error [default: 1e-4 for f32, 5e-3 for f16, 5e-2 with int8 weights]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Precision,
    /// Storage of the weights of convolutions and linear layers
    #[arg(long, value_name = "TYPE", default_value = "same")]
    pub weights: Weights,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Model: a folder in diffusers' layout, a .safetensors file of a whole SD 1.x or 2.x, the name of one that `dreamglass
    /// models pull` downloaded, or `demo` for the one inside the program [default: demo]
    #[arg(long, value_name = "PATH|NAME", env = "DREAMGLASS_MODEL", hide_env = true)]
    model: Option<PathBuf>,
    /// Adapter by index or part of its name, see `dreamglass devices` [default: auto]
    #[arg(long, value_name = "INDEX|NAME", env = "DREAMGLASS_ADAPTER", value_parser = adapter)]
    adapter: Option<AdapterChoice>,
}

impl PlaceArgs {
    /// The model's folder, or its name.
    pub fn model(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(EMBEDDED_NAME))
    }
    /// The adapter.
    pub fn adapter(&self) -> AdapterChoice {
        self.adapter.clone().unwrap_or_default()
    }
    /// Takes what was not said from a configuration.
    pub fn complete(&mut self, configuration: &Configuration) -> Result<(), String> {
        self.model = self.model.take().or_else(|| configuration.model.clone());
        if let (None, Some(text)) = (&self.adapter, &configuration.adapter) {
            self.adapter = Some(adapter(text)?);
        }
        Ok(())
    }
}

/// How a model is loaded to make pictures.
#[derive(Debug, Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub dtype: Precision,
    /// Storage of the weights of convolutions and linear layers: int8 for models that the device has no room for
    #[arg(long, value_name = "TYPE", default_value = "same")]
    pub weights: Weights,
    /// Another autoencoder than the model's, of the same latents, as a folder, a safetensors file or the name of one
    /// that was pulled: a tiny one such as TAESD's does a thirteenth of the work of an AutoencoderKL
    #[arg(long, value_name = "PATH|NAME", value_parser = autoencoder)]
    pub vae: Option<PathBuf>,
    /// LoRA to fuse into the model, a safetensors file of kohya, diffusers or peft, and how much of it: 1 where nothing
    /// is said, 0.5 half, -1 the opposite; several are added up. The name of one that was pulled will do, too
    #[arg(long = "lora", value_name = "FILE|NAME[=WEIGHT]", value_parser = lora)]
    pub loras: Vec<LoraFile>,
}

/// What the result looks like; with the parameters of streams or without.
#[derive(Debug, Args)]
pub struct StyleArgs<const STREAM: bool> {
    /// One of the model's named looks, see `dreamglass looks`
    #[arg(long, value_name = "NAME", env = "DREAMGLASS_LOOK", hide_env = true, help_heading = "Prompt")]
    pub look: Option<String>,
    /// Saved parameters, by name or as a TOML file; options here go before them
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Option<PathBuf>,
    #[command(flatten)]
    pub parameters: ParameterArgs<STREAM>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Half precision: half the memory
    F16,
    /// Single precision
    F32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// As --dtype says
    Same,
    /// Bytes, each output channel with a scale of its own: half the memory of f16, a little less exact
    Int8,
}

/// An adapter, by index or name.
pub fn adapter(text: &str) -> Result<AdapterChoice, String> {
    match text.parse() {
        Ok(index) => Ok(AdapterChoice::Index(index)),
        Err(_) if text.trim().is_empty() => Err("expected an index, a part of a name or `auto`".into()),
        Err(_) if text == "auto" => Ok(AdapterChoice::Auto),
        Err(_) => Ok(AdapterChoice::Name(text.into())),
    }
}

/// An autoencoder on disk or in the cache.
pub fn autoencoder(text: &str) -> Result<PathBuf, String> {
    let path = on_disk(text)?;
    let files = ["config.json", "vae/config.json", "taesd_encoder.safetensors"];
    if path.is_file() || files.iter().any(|file| path.join(file).is_file()) {
        return Ok(path);
    }
    Err(format!(
        "expected a safetensors file, or a folder with the config.json of an autoencoder or with \
         taesd_encoder.safetensors and taesd_decoder.safetensors, found none in {text}"
    ))
}

/// `text` as a path, or where the model of that name is in the cache.
fn on_disk(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let there = if path.exists() { None } else { repository::locate(text).map_err(|e| format!("{e:#}"))? };
    Ok(there.unwrap_or(path))
}

/// A LoRA on disk or in the cache, with its weight.
pub fn lora(text: &str) -> Result<LoraFile, String> {
    // A file may have the sign in its name.
    let weighted = text.rsplit_once('=').filter(|_| !Path::new(text).is_file());
    let (path, weight) = weighted.unwrap_or((text, "1"));
    let weight: f32 = weight
        .parse()
        .ok()
        .filter(|weight: &f32| weight.is_finite())
        .ok_or_else(|| format!("expected a number behind the last `=`, such as 0.8, got `{weight}`"))?;
    let there = on_disk(path)?;
    if !there.is_file() {
        return Err(format!("expected a safetensors file, found nothing of the kind at {path}"));
    }
    Ok(LoraFile { path: there, weight })
}

fn size(text: &str) -> Result<Size, String> {
    let error = || "expected WIDTHxHEIGHT in pixels, such as 1280x720".to_string();
    Size::from_value(&Value::Text(text.into()), &Kind::Size).ok_or_else(error)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.05..=86_400.0).contains(s));
    seconds.ok_or_else(|| "expected seconds, from 0.05 to 86400".into())
}
