//! A folder of pictures as a slide show.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use dreamglass_engine::Picture;

use super::pace::Beat;
use super::still::FPS;
use super::{Captured, Event, Options, Source, picture};
use crate::failure::bad_input;

/// What pictures are called; other files of a folder are not looked at.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// The pictures of a folder by name, one after the other.
pub struct Slides {
    folder: PathBuf,
    repeats: bool,
    slide_time: Duration,
    paths: Vec<PathBuf>,
    /// Place in `paths` of the next one.
    next: usize,
    picture: Picture,
    shown_since: Instant,
    has_told: bool,
    is_over: bool,
    beat: Beat,
}

impl Slides {
    /// Lists the folder and reads its first picture.
    pub fn open(folder: &Path, options: &Options) -> Result<Self> {
        let paths = list(folder).map_err(|e| bad_input(format!("{}: {e}", folder.display())))?;
        let Some((next, picture)) = first_readable(&paths, 0) else {
            let found = match paths.len() {
                0 => format!("there is no file called {}", EXTENSIONS.map(|e| format!("*.{e}")).join(", ")),
                n => format!("none of its {n} pictures can be read"),
            };
            return Err(bad_input(format!("{}: expected pictures, but {found}", folder.display())));
        };
        Ok(Self {
            folder: folder.into(),
            repeats: options.repeats,
            slide_time: options.slide_time,
            paths,
            next,
            picture,
            shown_since: Instant::now(),
            has_told: false,
            is_over: false,
            beat: Beat::new(FPS),
        })
    }
    /// Goes on to the next picture that can be read.
    fn advance(&mut self) -> Option<Event> {
        self.shown_since = Instant::now();
        let mut found = first_readable(&self.paths, self.next);
        if found.is_none() && !self.repeats {
            self.is_over = true;
            return Some(Event::End);
        }
        if found.is_none() {
            // From the top, with what has come into the folder meanwhile.
            self.paths = list(&self.folder).unwrap_or_default();
            found = first_readable(&self.paths, 0);
        }
        match found {
            Some((next, picture)) => {
                (self.next, self.picture, self.has_told) = (next, picture, false);
                None
            }
            None if self.has_told => None,
            None => {
                self.has_told = true;
                let folder = self.folder.display();
                Some(Event::Trouble(format!("{folder}: no picture can be read any more; the last one stays")))
            }
        }
    }
}

impl Source for Slides {
    fn next(&mut self) -> Result<Option<Event>> {
        if self.is_over {
            return Ok(Some(Event::End));
        }
        if self.shown_since.elapsed() >= self.slide_time
            && let Some(event) = self.advance()
        {
            return Ok(Some(event));
        }
        let Some((index, captured_at)) = self.beat.wait() else { return Ok(None) };
        Ok(Some(Event::Frame(Captured { index, captured_at, picture: self.picture.clone() })))
    }
    fn describe(&self) -> String {
        let seconds = self.slide_time.as_secs_f32();
        format!("{}, {} pictures of {seconds} s each", self.folder.display(), self.paths.len())
    }
}

/// The first picture from `start` on that can be read, and the place after it. Others are warned of.
fn first_readable(paths: &[PathBuf], start: usize) -> Option<(usize, Picture)> {
    paths.iter().enumerate().skip(start).find_map(|(ix, path)| match picture::read(path) {
        Ok(picture) => Some((ix + 1, picture)),
        Err(error) => {
            tracing::warn!("skipped: {error:#}");
            None
        }
    })
}

/// The pictures of a folder, sorted by name. Hidden ones are not meant.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_meant = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let is_hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) && !is_hidden && path.is_file()
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.extend(Some(entry?.path()).filter(is_meant));
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use image::RgbImage;
    use tempfile::TempDir;

    use super::super::open;
    use super::*;

    fn source(folder: &TempDir, repeats: bool) -> Result<Box<dyn Source>> {
        let options = Options { repeats, slide_time: Duration::from_millis(100), ..Options::default() };
        open(&folder.path().to_string_lossy().parse().unwrap(), &options)
    }

    /// Widths of the pictures in the order they appear, and what else was said.
    fn watch(source: &mut dyn Source, most: usize) -> (Vec<u32>, Vec<String>) {
        let (mut widths, mut said) = (Vec::new(), Vec::new());
        let started = Instant::now();
        while widths.len() + said.len() < most && started.elapsed() < Duration::from_secs(20) {
            match source.next().unwrap() {
                Some(Event::Frame(frame)) => widths.push(frame.picture.size().width),
                Some(Event::Trouble(why)) => said.push(why),
                Some(Event::End) => break,
                None => {}
            }
            widths.dedup();
        }
        (widths, said)
    }

    fn with_pictures() -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, width) in [("b.png", 2), ("a.jpg", 1), ("d.bmp", 4), (".e.png", 5)] {
            RgbImage::new(width, 1).save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("c.png"), "broken").unwrap();
        fs::write(folder.path().join("notes.txt"), "not a picture").unwrap();
        folder
    }

    #[test]
    fn pictures_come_in_the_order_of_their_names() {
        let folder = with_pictures();
        let mut source = source(&folder, false).unwrap();
        assert!(source.describe().ends_with("4 pictures of 0.1 s each"), "{}", source.describe());
        assert_eq!(watch(source.as_mut(), 99).0, [1, 2, 4]);
        assert!(matches!(source.next().unwrap(), Some(Event::End)));
    }

    #[test]
    fn a_repeated_show_sees_new_pictures() {
        let folder = with_pictures();
        let mut source = source(&folder, true).unwrap();
        RgbImage::new(9, 1).save(folder.path().join("z.png")).unwrap();
        assert_eq!(watch(source.as_mut(), 7).0, [1, 2, 4, 1, 2, 4, 9]);
        for entry in fs::read_dir(folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let (_, said) = watch(source.as_mut(), 2);
        assert!(said.iter().any(|s| s.contains("the last one stays")), "{said:?}");
        RgbImage::new(7, 1).save(folder.path().join("new.png")).unwrap();
        assert!(watch(source.as_mut(), 2).0.contains(&7));
    }

    #[test]
    fn folders_without_pictures() {
        let folder = TempDir::new().unwrap();
        let message = |folder: &TempDir| source(folder, true).err().unwrap().to_string();
        assert!(message(&folder).contains("*.png"));
        fs::write(folder.path().join("a.png"), "broken").unwrap();
        fs::create_dir(folder.path().join("b.png")).unwrap();
        assert!(message(&folder).contains("none of its 1 pictures"));
    }
}
