//! One picture, again and again, so that a change of the settings or of the file shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use dreamglass_engine::{Picture, Size};

use super::pace::Beat;
use super::{Captured, Event, Source, picture};

/// Frames per second of a picture that stands still.
pub const FPS: f64 = 30.0;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// What tells one version of a file from another.
type Stamp = (Option<SystemTime>, u64);

/// A picture file.
pub struct Still {
    path: PathBuf,
    picture: Picture,
    stamp: Stamp,
    looked: Instant,
    beat: Beat,
}

impl Still {
    /// Reads it.
    pub fn open(path: &Path) -> Result<Self> {
        // Before reading: a change meanwhile is then seen.
        let stamp = stamp(path);
        let picture = picture::read(path)?;
        Ok(Self { path: path.into(), picture, stamp, looked: Instant::now(), beat: Beat::new(FPS) })
    }
    /// Reads the file again if it has changed. What went wrong, told once for each change; the
    /// earlier picture stays then.
    fn refresh(&mut self) -> Option<String> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        let stamp = stamp(&self.path);
        if stamp == self.stamp {
            return None;
        }
        self.stamp = stamp;
        match picture::read(&self.path) {
            Ok(picture) => {
                self.picture = picture;
                None
            }
            Err(error) => Some(format!("{error:#}; the picture before it stays")),
        }
    }
}

impl Source for Still {
    fn next(&mut self) -> Result<Option<Event>> {
        if let Some(trouble) = self.refresh() {
            return Ok(Some(Event::Trouble(trouble)));
        }
        let Some((index, captured_at)) = self.beat.wait() else { return Ok(None) };
        Ok(Some(Event::Frame(Captured { index, captured_at, picture: self.picture.clone() })))
    }
    fn describe(&self) -> String {
        let Size { width, height } = self.picture.size();
        format!("{}, {width}x{height}", self.path.display())
    }
}

/// Differs after a change; a file that is gone has one too.
fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).map_or((None, 0), |m| (m.modified().ok(), m.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use image::RgbImage;
    use tempfile::TempDir;

    use super::super::{Options, open};
    use super::*;

    const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/signing.jpg");

    fn source(path: &Path) -> Box<dyn Source> {
        open(&path.to_string_lossy().parse().unwrap(), &Options::default()).unwrap()
    }

    /// Waits for what `is_wanted`.
    fn until(source: &mut dyn Source, is_wanted: impl Fn(&Event) -> bool) -> Event {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(event) = source.next().unwrap().filter(&is_wanted) {
                return event;
            }
        }
        panic!("it never came");
    }

    #[test]
    fn a_photo_comes_again_and_again() {
        let mut source = source(Path::new(PHOTO));
        assert!(source.describe().ends_with("signing.jpg, 256x256"));
        let started = Instant::now();
        for _ in 0..7 {
            until(source.as_mut(), |e| matches!(e, Event::Frame(_)));
        }
        assert!(started.elapsed() >= Duration::from_millis(190));
    }

    #[test]
    fn changes_of_the_file_show() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("picture.png");
        RgbImage::new(8, 6).save(&path).unwrap();
        let mut source = source(&path);
        RgbImage::new(10, 10).save(&path).unwrap();
        let has_size =
            |w, h| move |e: &Event| matches!(e, Event::Frame(f) if f.picture.size() == Size::new(w, h));
        until(source.as_mut(), has_size(10, 10));
        fs::write(&path, "no picture any more").unwrap();
        let Event::Trouble(why) = until(source.as_mut(), |e| matches!(e, Event::Trouble(_))) else { return };
        assert!(why.contains("picture.png") && why.contains("stays"), "{why}");
        until(source.as_mut(), has_size(10, 10));
        fs::remove_file(&path).unwrap();
        until(source.as_mut(), |e| matches!(e, Event::Trouble(_)));
        RgbImage::new(12, 3).save(&path).unwrap();
        until(source.as_mut(), has_size(12, 3));
    }

    #[test]
    fn contents_decide_what_a_file_is() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::copy(PHOTO, path("photo.mp4")).unwrap();
        assert!(source(&path("photo.mp4")).describe().ends_with("photo.mp4, 256x256"));
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/signing.mp4");
        fs::copy(clip, path("clip.png")).unwrap();
        assert!(source(&path("clip.png")).describe().ends_with("15 fps"));
        let photo = image::open(PHOTO).unwrap().to_rgba8();
        let animate = |name: &str, frames: usize| {
            let mut encoder = image::codecs::gif::GifEncoder::new(fs::File::create(path(name)).unwrap());
            let frame = image::Frame::new(photo.clone());
            encoder.encode_frames((0..frames).map(|_| frame.clone())).unwrap();
        };
        animate("one.gif", 1);
        animate("many.gif", 5);
        assert!(source(&path("one.gif")).describe().ends_with("one.gif, 256x256"));
        assert!(source(&path("many.gif")).describe().ends_with("fps"));
    }

    #[test]
    fn pictures_that_are_none() {
        let folder = TempDir::new().unwrap();
        let refused = |path: &Path| {
            let spec = path.to_string_lossy().parse().unwrap();
            format!("{:#}", open(&spec, &Options::default()).err().unwrap())
        };
        let path = folder.path().join("cut.png");
        image::open(PHOTO).unwrap().save(&path).unwrap();
        fs::write(&path, &fs::read(&path).unwrap()[..300]).unwrap();
        assert!(refused(&path).contains("cut.png"), "{}", refused(&path));
        let path = folder.path().join("gone.png");
        assert!(refused(&path).contains("gone.png: there is no such file"));
        #[cfg(unix)]
        assert!(refused(Path::new("/dev/null")).contains("camera:1"));
    }
}
