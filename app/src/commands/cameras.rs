//! `dreamglass cameras`: the cameras there are.

use std::process::ExitCode;

use anyhow::Result;

use super::print;
use crate::source::camera;

/// Lists cameras, in the words that `--source` takes.
pub fn run() -> Result<ExitCode> {
    let cameras = camera::list()?;
    if cameras.is_empty() {
        eprintln!("there is no camera");
        return Ok(ExitCode::SUCCESS);
    }
    let lines = cameras.iter().map(|c| format!("camera:{}  {}\n", c.index, c.name));
    print(&lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
