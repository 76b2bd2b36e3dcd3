//! What reads files of strangers: for the test here, and for cargo-fuzz.

use std::sync::Arc;

use dreamglass_engine::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use dreamglass_engine::weights::{Bytes, Checkpoint};
use dreamglass_engine::{ModelFiles, SingleFile};

/// Reads a file; says whether it was taken for a sound one.
pub type Reader = fn(&[u8]) -> bool;

/// Every reader, by the name of its folder of seeds.
pub const READERS: [(&str, Reader); 6] = [
    ("safetensors", checkpoint),
    ("single", single),
    ("unet", |bytes| UnetConfig::parse("config.json", bytes).is_ok()),
    ("vae", |bytes| AutoencoderConfig::parse("config.json", bytes).is_ok()),
    ("text_encoder", |bytes| TextConfig::parse("config.json", bytes).is_ok()),
    ("scheduler", |bytes| SchedulerConfig::parse("config.json", bytes).is_ok()),
];

/// Opens a checkpoint and reads what the seeds hold.
fn checkpoint(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("file", Bytes::Owned(Arc::from(bytes))) else { return false };
    let shapes: [(&str, &[u32]); 3] = [("a.weight", &[4, 3]), ("b.weight", &[2, 3, 3, 3]), ("b.bias", &[2])];
    shapes.iter().map(|(name, shape)| checkpoint.tensor(name, shape)).all(|values| values.is_ok())
}

/// Opens a file of one piece and reads the configs that follow from it.
fn single(bytes: &[u8]) -> bool {
    let Ok(file) = SingleFile::from_bytes("file", Bytes::Owned(Arc::from(bytes))) else { return false };
    let files = ModelFiles::Single(Arc::new(file));
    let readers: [(&str, Reader); 4] = [
        ("unet/config.json", |bytes| UnetConfig::parse("config.json", bytes).is_ok()),
        ("vae/config.json", |bytes| AutoencoderConfig::parse("config.json", bytes).is_ok()),
        ("text_encoder/config.json", |bytes| TextConfig::parse("config.json", bytes).is_ok()),
        ("scheduler/scheduler_config.json", |bytes| SchedulerConfig::parse("config.json", bytes).is_ok()),
    ];
    let found = readers.iter().filter_map(|(name, reader)| Some((reader, files.open(name).unwrap()?)));
    found.map(|(reader, bytes)| reader(&bytes)).fold(true, |all, one| all & one)
}
