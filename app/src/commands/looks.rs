//! `dreamglass looks`: the prompts that a model names.

use std::process::ExitCode;

use anyhow::Result;

use super::print;
use crate::cli::LooksArgs;
use crate::failure::bad_input;
use crate::model::{self, Looks};

/// Lists the looks of a model.
pub fn run(arguments: &LooksArgs) -> Result<ExitCode> {
    let looks = Looks::open(&model::files(&arguments.model)?)?;
    if looks.looks.is_empty() {
        let model = arguments.model.display();
        return Err(bad_input(format!(
            "model {model} names no looks: say what the result shows with --prompt"
        )));
    }
    let width = looks.looks.iter().map(|l| l.name.len()).max().unwrap_or(0);
    let lines = looks.looks.iter().map(|l| format!("{:width$}  {}\n", l.name, l.prompt));
    print(&lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
