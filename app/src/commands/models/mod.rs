//! `dreamglass models`: models of the Hugging Face hub, fetched, listed, described and removed.

mod fit;
mod forecast;
mod list;
mod pull;
mod remove;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

pub use self::fit::FitArgs;
pub use self::list::ListArgs;
pub use self::pull::PullArgs;
pub use self::remove::RemoveArgs;
pub use self::show::ShowArgs;
use crate::repository::{Interrupted, Stop};

pub const HELP: &str = "\
Examples:
  dreamglass models pull taesd
  dreamglass models pull SimianLuo/LCM_Dreamshaper_v7
  dreamglass image photo.jpg -o out.png --model lcm-dreamshaper --vae taesd --prompt \"ink\"
  dreamglass models list
  dreamglass models show demo
  dreamglass models fit sd-turbo --size 512x512
  dreamglass models remove lcm-dreamshaper

Only `models pull` downloads anything. What it fetched is known by the same name to --model,
--vae and --lora; a file or folder of that name goes before it. It lies in the cache that Python's
huggingface_hub uses, too: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.";

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Download a model, autoencoder or LoRA from the Hugging Face hub
    #[command(after_help = pull::help())]
    Pull(PullArgs),
    /// List what is in the cache and can be used
    List(ListArgs),
    /// Describe a model: family, defaults, networks, stored types, licence
    #[command(after_help = show::HELP)]
    Show(ShowArgs),
    /// Say whether a model fits this device, and forecast how fast it is, without loading it
    #[command(after_help = fit::HELP)]
    Fit(Box<FitArgs>),
    /// Remove a model from the cache
    #[command(after_help = remove::HELP)]
    Remove(RemoveArgs),
}

/// Does it.
pub fn run(command: &ModelsCommand) -> Result<ExitCode> {
    match command {
        ModelsCommand::Pull(arguments) => pull::run(arguments),
        ModelsCommand::List(arguments) => list::run(arguments),
        ModelsCommand::Show(arguments) => show::run(arguments),
        ModelsCommand::Fit(arguments) => fit::run(arguments),
        ModelsCommand::Remove(arguments) => remove::run(arguments),
    }
}

/// Whether there is somebody to ask.
fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question whose answer is no unless it is yes.
///
/// # Errors
/// [`Interrupted`] by Ctrl-C.
fn ask(question: &str, stop: &Stop) -> Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let (told, answer) = channel();
    // Reading a line ends for nothing but a line.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = told.send(io::stdin().lock().read_line(&mut line).map(|_| line));
    });
    loop {
        match answer.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => return Ok(matches!(line?.trim().to_lowercase().as_str(), "y" | "yes")),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) if stop.is_raised() => return Err(Interrupted.into()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
