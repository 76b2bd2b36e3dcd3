//! `dreamglass models remove`: makes room in the cache.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use indicatif::BinaryBytes;

use super::{ask, is_terminal};
use crate::failure::{INTERRUPTED, bad_input};
use crate::interrupt;
use crate::repository::{Cache, Environment, Interrupted, Name, Removal, Stop};

pub const HELP: &str = "\
Examples:
  dreamglass models remove sd-turbo
  dreamglass models remove OWNER/NAME@refs/pr/1 --yes

Without @REV every revision goes; with it, that one alone, and the files that no other revision shares.
Nothing outside the cache is touched. Python programs that use the same cache lose it, too.";

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Repository OWNER/NAME or a short name; with @REV one revision of it
    #[arg(value_name = "REPO[@REV]")]
    pub name: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Removes a model.
pub fn run(arguments: &RemoveArgs) -> Result<ExitCode> {
    let name: Name = arguments.name.parse().map_err(bad_input)?;
    let cache = Cache::new(Environment::read()?.cache);
    let missing = || bad_input(format!("{name} is not in the cache ({})", cache.folder().display()));
    let commit = match &name.revision {
        Some(revision) => Some(cache.repository(&name.repository).commit(revision)?.ok_or_else(missing)?),
        None => None,
    };
    let removal = Removal::plan(&cache, &name.repository, commit.as_deref())?.ok_or_else(missing)?;
    let part = if removal.is_whole() { "all of" } else { "one revision of" };
    let what = format!("{part} {}, {}", name.repository, BinaryBytes(removal.bytes));
    if !arguments.yes && !is_terminal() {
        return Err(bad_input(format!("to remove {what} without being asked, say --yes")));
    }
    let stop = Stop::new(interrupt::watch()?);
    let remove = || -> Result<bool> {
        let is_wanted = arguments.yes || ask(&format!("Remove {what}?"), &stop)?;
        if is_wanted {
            removal.run(&stop, || eprintln!("waiting for a pull of {}", name.repository))?;
        }
        Ok(is_wanted)
    };
    match remove() {
        Err(error) if error.is::<Interrupted>() => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(error),
        Ok(true) => {
            eprintln!("removed {what}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(false) => {
            eprintln!("nothing was removed");
            Ok(ExitCode::FAILURE)
        }
    }
}
