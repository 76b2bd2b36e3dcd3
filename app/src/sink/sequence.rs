//! A picture file for every frame.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;

use super::picture::PictureFile;
use super::{Sink, Stopped};

/// Most digits of a number.
const MAX_DIGITS: usize = 12;

/// Numbered names: `frames/%06d.png`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    folder: PathBuf,
    before: String,
    digits: usize,
    after: String,
}

impl Pattern {
    /// A path whose name holds one `%d` or `%06d`.
    pub fn new(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let expected = || format!("{shown}: expected one number in the name, such as %06d.png");
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (before, rest) = name.split_once('%').ok_or_else(expected)?;
        let (digits, after) = rest.split_once('d').ok_or_else(expected)?;
        let digits = if digits.is_empty() { "1" } else { digits };
        let digits: usize = digits.parse().map_err(|_| expected())?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if after.contains('%')
            || folder.to_string_lossy().contains('%')
            || !(1..=MAX_DIGITS).contains(&digits)
        {
            return Err(expected());
        }
        let pattern = Self { folder, before: before.into(), digits, after: after.into() };
        PictureFile::check_name(&pattern.path(1)).map_err(|e| e.to_string())?;
        Ok(pattern)
    }
    /// Where picture `number` goes.
    pub fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}{number:0width$}{}", self.before, self.after, width = self.digits))
    }
    /// The largest number that is there already.
    fn largest(&self) -> u64 {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let number = |name: std::ffi::OsString| -> Option<u64> {
            name.to_str()?.strip_prefix(&self.before)?.strip_suffix(&self.after)?.parse().ok()
        };
        names.filter_map(number).max().unwrap_or(0)
    }
}

/// Numbered pictures. Numbers go on after those that are there: no earlier picture is lost.
#[derive(Debug)]
pub struct Sequence {
    pattern: Pattern,
    first: u64,
    next: u64,
    stopped: Option<Stopped>,
}

impl Sequence {
    /// Makes the folder.
    pub fn new(pattern: &Pattern) -> Result<Self> {
        let mut pattern = pattern.clone();
        if pattern.folder.as_os_str().is_empty() {
            pattern.folder = ".".into();
        }
        let folder = &pattern.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let first = pattern.largest() + 1;
        Ok(Self { pattern, first, next: first, stopped: None })
    }
}

impl Sink for Sequence {
    fn write(&mut self, picture: &Picture, _: Instant) -> Result<()> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone().into());
        }
        let path = self.pattern.path(self.next);
        let written = PictureFile::new(&path).and_then(|file| file.write(picture.clone()));
        if let Err(error) = written {
            let kept = (self.next > self.first).then(|| self.pattern.folder.clone());
            let stopped = Stopped { name: path.display().to_string(), reason: format!("{error:#}"), kept };
            self.stopped = Some(stopped.clone());
            return Err(stopped.into());
        }
        self.next += 1;
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<String> {
        match self.stopped {
            Some(stopped) => Err(stopped.into()),
            None if self.next == self.first => Ok("no pictures".into()),
            None => {
                let (first, last) = (self.pattern.path(self.first), self.pattern.path(self.next - 1));
                let count = self.next - self.first;
                Ok(format!("{count} pictures, {} to {}", first.display(), last.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use dreamglass_engine::Size;
    use tempfile::TempDir;

    use super::*;

    fn picture(value: u8) -> Picture {
        Picture::new(Size::new(3, 2), vec![value; 24]).unwrap()
    }

    fn sequence(folder: &TempDir, name: &str) -> Box<Sequence> {
        Box::new(Sequence::new(&Pattern::new(&folder.path().join(name)).unwrap()).unwrap())
    }

    #[test]
    fn pictures_are_numbered_and_none_is_lost() {
        let folder = TempDir::new().unwrap();
        for (round, last) in [(1, 2), (2, 4)] {
            let mut sink = sequence(&folder, "new/folder/a-%03d.png");
            for value in [1, 2] {
                sink.write(&picture(value), Instant::now()).unwrap();
            }
            let said = (sink as Box<dyn Sink>).finish().unwrap();
            assert!(
                said.starts_with("2 pictures") && said.ends_with(&format!("a-00{last}.png")),
                "{round} {said}"
            );
        }
        let read = image::open(folder.path().join("new/folder/a-004.png")).unwrap().to_rgb8();
        assert_eq!(read.into_raw(), [2; 18]);
        assert_eq!(fs::read_dir(folder.path().join("new/folder")).unwrap().count(), 4);
    }

    #[test]
    fn patterns_are_checked() {
        let pattern = |text: &str| Pattern::new(Path::new(text));
        assert_eq!(pattern("a%02db.jpg").unwrap().path(7), Path::new("a07b.jpg"));
        assert_eq!(pattern("%d.png").unwrap().path(1234), Path::new("1234.png"));
        for text in
            ["%.png", "%s.png", "%d%d.png", "%d/%d.png", "%d/a.png", "%099d.png", "%0d.png", "%-3d.png"]
        {
            assert!(pattern(text).unwrap_err().contains("%06d"), "{text}");
        }
        assert!(pattern("%d.xyz").unwrap_err().contains("png"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_stops_it() {
        let folder = TempDir::new().unwrap();
        let mut sink = sequence(&folder, "%d.png");
        sink.write(&picture(1), Instant::now()).unwrap();
        let unfinished = folder.path().join(format!(".unfinished-{}-2.png", std::process::id()));
        std::os::unix::fs::symlink("/dev/full", unfinished).unwrap();
        let error = sink.write(&picture(2), Instant::now()).unwrap_err();
        let stopped = error.downcast_ref::<Stopped>().unwrap();
        assert_eq!(stopped.kept.as_deref(), Some(folder.path()));
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(sink.write(&picture(3), Instant::now()).unwrap_err().is::<Stopped>());
        assert!((sink as Box<dyn Sink>).finish().unwrap_err().is::<Stopped>());
        assert!(!folder.path().join("2.png").exists());
    }
}
