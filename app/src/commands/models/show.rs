//! `dreamglass models show`: what a model is, without a device.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use dreamglass_engine::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use dreamglass_engine::params::Field as _;
use dreamglass_engine::weights::{Checkpoint, Stored};
use dreamglass_engine::{EngineError, Family, ModelFiles, Network};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::commands::print;
use crate::failure::bad_input;
use crate::model::{self, EMBEDDED_NAME};
use crate::repository::{self, Name, Snapshot};

pub const HELP: &str = "\
Examples:
  dreamglass models show demo
  dreamglass models show sd-turbo
  dreamglass models show ~/models/checkpoint.safetensors --json
  dreamglass models show lcm-lora-sd15

Reads configs and the headers of weights; no device is opened.";

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Model folder or file, autoencoder, LoRA, name of one that was pulled, or `demo` for the one inside the program
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Describes a model.
pub fn run(arguments: &ShowArgs) -> Result<ExitCode> {
    let described = describe(&arguments.model)?;
    match arguments.json {
        true => print(&format!("{described:#}\n"))?,
        false => print(&in_text(&described))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(name: &str) -> Result<Value> {
    let place = place(name)?;
    if let Some(path) = place.as_deref().filter(|path| path.is_file())
        && let Some(lora) = lora(path)?
    {
        return Ok(with_origin(lora, name, Some(path)));
    }
    let files = model::files(Path::new(name))?;
    let mut described = json!({});
    let has = |config: &str| Ok::<_, EngineError>(files.open(config)?.is_some());
    if has("unet/config.json")? {
        described = whole(&files)?;
    }
    if has("vae/config.json")? || has("config.json")? {
        described["autoencoder"] = Network::<AutoencoderConfig>::open(&files).map_or_else(refused, |vae| {
            let config = vae.config();
            network(
                vae.on_disk(),
                json!({
                    "kind": if vae.is_large() { "AutoencoderKL" } else { "AutoencoderTiny" },
                    "latent_channels": config.latent_channels,
                    "pixels_per_latent": config.factor(),
                }),
            )
        });
    }
    if described == json!({}) {
        return Err(bad_input(format!(
            "model {name}: expected a model, an autoencoder or a LoRA, found none of their configs"
        )));
    }
    Ok(with_origin(described, name, place.as_deref()))
}

/// Where `name` is on disk; the embedded model is not.
fn place(name: &str) -> Result<Option<std::path::PathBuf>> {
    let path = Path::new(name);
    match name {
        EMBEDDED_NAME => Ok(None),
        _ if path.exists() => Ok(Some(path.into())),
        _ => repository::locate(name),
    }
}

/// What is known of where it comes from, before what it is.
fn with_origin(described: Value, name: &str, place: Option<&Path>) -> Value {
    let snapshot = place.and_then(|path| Snapshot::around(&std::path::absolute(path).ok()?));
    let known = name.parse::<Name>().ok().and_then(|name| name.known());
    let licence = match place {
        None => Some("MIT OR Apache-2.0, as the program".to_owned()),
        Some(path) => snapshot.as_ref().map_or_else(|| repository::licence_in(path), Snapshot::licence),
    };
    let mut all = json!({
        "name": name,
        "path": place.map(|path| path.display().to_string()),
        "repository": snapshot.as_ref().map(|snapshot| &snapshot.repository),
        "commit": snapshot.as_ref().map(|snapshot| &snapshot.commit),
        "licence": licence,
        "licence_note": known.map(|known| known.licence),
    });
    if let (Value::Object(all), Value::Object(described)) = (&mut all, described) {
        all.extend(described);
    }
    all
}

/// Why a part cannot be used.
fn refused(error: EngineError) -> Value {
    json!({"error": error.to_string()})
}

/// A UNet, its text encoder and its schedule.
fn whole(files: &ModelFiles) -> Result<Value> {
    let unet = Network::<UnetConfig>::open(files)?;
    let scheduler = "scheduler/scheduler_config.json";
    let scheduler = SchedulerConfig::parse(&files.path(scheduler), &files.require(scheduler)?)?;
    let family = Family::of(unet.config(), &scheduler, &[]);
    let defaults = family.defaults();
    let config = unet.config();
    let text = Network::<TextConfig>::open(files).map_or_else(refused, |text| {
        let TextConfig { layers, hidden_size, heads, max_tokens, .. } = text.config();
        let shape = json!({"layers": layers, "channels": hidden_size, "heads": heads, "tokens": max_tokens});
        network(text.on_disk(), shape)
    });
    Ok(json!({
        "family": family.label(),
        "defaults": {
            "sampler": defaults.sampler.value().to_string(),
            "steps": defaults.steps,
            "strength": defaults.strength,
            "guidance": defaults.guidance,
        },
        "scheduler": {"class": scheduler.class, "prediction": format!("{:?}", scheduler.prediction).to_lowercase()},
        "unet": network(unet.on_disk(), json!({
            "channels": config.channels,
            "layers": config.layers,
            "heads": config.heads,
            "text_channels": config.cross_attention_dim[0],
            "guidance_embedding": config.time_cond_proj_dim,
            "latents": config.sample_size,
        })),
        "text_encoder": text,
    }))
}

/// A network's size and shape.
fn network(stored: Vec<Stored>, shape: Value) -> Value {
    let sum = |of: fn(&Stored) -> u64| stored.iter().map(of).sum::<u64>();
    let dtypes: Vec<&str> = stored.iter().map(|stored| stored.dtype.as_str()).collect();
    let mut network = json!({
        "parameters": sum(|stored| stored.values),
        "tensors": stored.iter().map(|stored| stored.tensors).sum::<usize>(),
        "dtype": dtypes.join(", "),
        "bytes": sum(|stored| stored.bytes),
    });
    if let (Value::Object(network), Value::Object(shape)) = (&mut network, shape) {
        network.extend(shape.into_iter().filter(|(_, value)| !value.is_null()));
    }
    network
}

/// A file of a LoRA; none where it holds something else.
fn lora(path: &Path) -> Result<Option<Value>> {
    let bytes = ModelFiles::Folder(path.parent().unwrap_or(path).into());
    let name = path.file_name().and_then(|name| name.to_str()).context("expected a name of letters")?;
    let checkpoint = Checkpoint::from_bytes(&path.display().to_string(), bytes.require(name)?)?;
    let changes = checkpoint.lora_ranks();
    if changes.is_empty() {
        return Ok(None);
    }
    let (least, most) = (changes.iter().min(), changes.iter().max());
    let shape = json!({"changed_weights": changes.len(), "rank": [least, most]});
    Ok(Some(json!({"lora": network(checkpoint.stored(), shape)})))
}

/// What is said first; what is not here is not said.
const ORDER: [&str; 13] = [
    "name",
    "path",
    "repository",
    "commit",
    "family",
    "defaults",
    "scheduler",
    "unet",
    "text_encoder",
    "autoencoder",
    "lora",
    "licence",
    "licence_note",
];

/// The same for people: one thing a line.
fn in_text(described: &Value) -> String {
    let part = |name: &&str| match &described[*name] {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().filter_map(|(name, value)| field(name, value)).collect();
            Some(format!("{}\n  {}\n", name.replace('_', " "), fields.join("\n  ")))
        }
        value => Some(field(name, value)? + "\n"),
    };
    ORDER.iter().filter_map(part).collect()
}

/// A name and a value; none where there is no value.
fn field(name: &str, value: &Value) -> Option<String> {
    let (label, number) = (name.replace('_', " "), value.as_f64().unwrap_or(0.0));
    Some(match value {
        Value::Null => return None,
        Value::Number(_) if name == "bytes" => format!("size: {}", BinaryBytes(number as u64)),
        Value::Number(_) if name == "parameters" => format!("{label}: {:.1} million", number / 1e6),
        Value::String(text) => format!("{label}: {text}"),
        Value::Array(list) => {
            format!("{label}: {}", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        other => format!("{label}: {other}"),
    })
}
