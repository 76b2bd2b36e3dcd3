//! Video files, encoded by a child ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use dreamglass_engine::{Picture, Size};

use super::encoder::{Encoder, read_pictures};
use super::unfinished::Unfinished;
use crate::failure::bad_input;
use crate::ffmpeg;

/// Containers that hold H.264 and AAC.
pub const EXTENSIONS: [&str; 4] = ["mp4", "mov", "m4v", "mkv"];

/// A video file to be written.
#[derive(Debug)]
pub struct VideoFile {
    file: Unfinished,
}

/// A video file being written. The encoder is gone before its file is.
#[derive(Debug)]
pub struct VideoWriter {
    encoder: Encoder,
    file: Unfinished,
}

/// What a video is made of besides its pictures.
#[derive(Debug, Clone)]
pub struct Form<'a> {
    /// Size of every picture.
    pub size: Size,
    /// Frames per second as ffmpeg's fraction.
    pub rate: &'a str,
    /// File whose sound is kept.
    pub sound: Option<&'a Path>,
    /// Whether it is encoded while it happens: fast, and playable even when it breaks off.
    pub is_live: bool,
}

impl VideoFile {
    /// Checks name and folder; nothing is written yet.
    pub fn new(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if !extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
            let expected = EXTENSIONS.join(", ");
            return Err(bad_input(format!("{}: expected one of the extensions {expected}", path.display())));
        }
        Ok(Self { file: Unfinished::new(path)? })
    }
    /// Starts encoding.
    pub fn start(self, form: &Form<'_>) -> Result<VideoWriter> {
        let mut command = ffmpeg::command("ffmpeg");
        arguments(&mut command, form, ffmpeg::encoder()?);
        command.arg(ffmpeg::input_url(self.file.path()));
        Ok(VideoWriter { encoder: Encoder::start(&mut command)?, file: self.file })
    }
}

fn arguments(command: &mut Command, form: &Form<'_>, encoder: &str) {
    let Form { size, rate, sound, is_live } = form;
    read_pictures(command, *size, rate);
    if let Some(path) = sound {
        command.arg("-i").arg(ffmpeg::input_url(path)).args(["-map", "0:v", "-map", "1:a:0", "-c:a", "aac"]);
        command.arg("-shortest");
    }
    let quality: &[&str] = match encoder {
        // The processor has a stream to keep up with.
        "libx264" if *is_live => &["-crf", "20", "-preset", "veryfast"],
        "libx264" => &["-crf", "18", "-preset", "fast"],
        "mpeg4" => &["-q:v", "3"],
        _ => &["-b:v", "8M"],
    };
    command.args(["-c:v", encoder]).args(quality);
    // Players take untagged small video for BT.601 and untagged large video for BT.709.
    command.args(["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"]);
    command.args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]);
    if *is_live {
        // Every two seconds or so a part is complete and stays playable whatever happens after it.
        command.args(["-g", "60", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"]);
    } else {
        command.args(["-movflags", "+faststart"]);
    }
}

impl VideoWriter {
    /// Encodes one more picture.
    pub fn write(&mut self, picture: &Picture) -> Result<()> {
        self.encoder.write(picture)
    }
    /// Encodes what is left. Whoever may want to salvage a failure calls this before `finish`.
    pub fn close(&mut self) -> Result<()> {
        self.encoder.close()
    }
    /// Ends the file and puts it in its place.
    pub fn finish(mut self) -> Result<()> {
        self.encoder.close()?;
        self.file.finish()
    }
    /// Keeps what there is of a live video that failed: where it is, if there is any.
    pub fn salvage(mut self) -> Option<PathBuf> {
        // It has failed before, and says nothing new.
        let _ = self.encoder.close();
        self.file.salvage()
    }
    /// Its process, for a test to end.
    #[cfg(test)]
    pub fn child(&mut self) -> &mut std::process::Child {
        self.encoder.child()
    }
}
