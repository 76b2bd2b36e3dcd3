//! `dreamglass image`: one picture.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::cli::ImageArgs;
use crate::config::{self, Style};
use crate::preset::Configuration;
use crate::sink::picture::PictureFile;
use crate::{model, source};

/// Stylises one picture.
pub fn run(arguments: &ImageArgs) -> Result<ExitCode> {
    let output = PictureFile::new(&arguments.output)?;
    let picture = source::picture::read(&arguments.input)?;
    let files = model::files(arguments.engine.place.model())?;
    let style = Style::new(&arguments.style, &Configuration::default(), &files)?;
    let mut engine = config::engine(&arguments.engine, &files)?;
    let settings = style.settings(&engine, picture.size())?;
    let started = Instant::now();
    let result = engine.img2img(&picture, &settings)?;
    tracing::info!("{:.2} s with preparation", started.elapsed().as_secs_f64());
    output.write(result)?;
    let size = settings.size;
    eprintln!("{}: {}x{}, \"{}\"", arguments.output.display(), size.width, size.height, settings.prompt);
    Ok(ExitCode::SUCCESS)
}
