//! What `--record` and its like say.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::sequence::Pattern;
use super::video::EXTENSIONS;

/// What pictures of a folder are called.
const FOLDER_PATTERN: &str = "%06d.png";

/// Where pictures go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkSpec {
    /// A video file.
    Video(PathBuf),
    /// A file for each picture.
    Sequence(Pattern),
    /// A video device that other programs read as a camera.
    Device(PathBuf),
    /// Nowhere.
    Null,
}

impl FromStr for SinkSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if text == "null" {
            Ok(Self::Null)
        } else if text.starts_with("/dev/video") {
            Ok(Self::Device(path.into()))
        } else if text.contains('%') {
            Pattern::new(path).map(Self::Sequence)
        } else if EXTENSIONS.contains(&extension.as_str()) {
            Ok(Self::Video(path.into()))
        } else if text.ends_with(['/', std::path::MAIN_SEPARATOR]) || path.is_dir() {
            Pattern::new(&path.join(FOLDER_PATTERN)).map(Self::Sequence)
        } else if image::ImageFormat::from_extension(&extension).is_some() {
            let stem = path.with_extension("");
            Err(format!("{text}: each picture needs a number: {}-%06d.{extension}", stem.display()))
        } else {
            Err(format!(
                "{text}: expected a video (.{}), pictures (frames/%06d.png or a folder, frames/), a video \
                 device (/dev/video10) or null",
                EXTENSIONS.join(", .")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn sinks_are_named() {
        let spec = |text: &str| text.parse::<SinkSpec>().unwrap();
        assert_eq!(spec("null"), SinkSpec::Null);
        assert_eq!(spec("out.mp4"), SinkSpec::Video("out.mp4".into()));
        assert_eq!(spec("a/b.MKV"), SinkSpec::Video("a/b.MKV".into()));
        assert_eq!(spec("/dev/video10"), SinkSpec::Device("/dev/video10".into()));
        let frames = SinkSpec::Sequence(Pattern::new(Path::new("frames/%06d.png")).unwrap());
        assert_eq!(spec("frames/%06d.png"), frames);
        assert_eq!(spec("frames/"), frames);
    }

    #[test]
    fn refusals_teach() {
        let refused = |text: &str| text.parse::<SinkSpec>().unwrap_err();
        assert!(refused("out.png").contains("out-%06d.png"));
        for text in ["", "out", "out.avi", "/dev/null", "nul"] {
            assert!(refused(text).contains("/dev/video10"), "{text}");
        }
        assert!(refused("%d.mp4").contains("png"));
        assert!(refused("%d%d.png").contains("%06d"));
    }
}
