//! One file on its way: into `blobs/NAME.incomplete`, on from where that ends, checked, and only then to its place.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use ureq::http::{Method, Uri};

use super::cache::Repository;
use super::checksum::{Checksum, Reader};
use super::client::{Answer, Client, Interrupted, Patience, Trouble};
use super::lock::Lock;

/// Bytes that show that a line works, so that failures before them do not count any more.
const PROGRESS: u64 = 1 << 20;
/// Bytes of a file that are summed up at once.
const PIECE: usize = 1 << 18;
/// Times that a file may come with another checksum.
const MOST_DAMAGED: u32 = 2;

/// A file to get.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its path in the repository.
    pub path: String,
    /// Where it is.
    pub url: Uri,
    /// Its size.
    pub size: u64,
    /// Its checksum.
    pub checksum: Checksum,
}

impl Blob {
    /// Whether it is there.
    pub fn is_in(&self, repository: &Repository) -> bool {
        // Only what was checked has its name.
        let path = repository.blob(&self.checksum);
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == self.size)
    }

    /// Bytes that are still to come.
    pub fn missing(&self, repository: &Repository) -> u64 {
        if self.is_in(repository) {
            return 0;
        }
        let there = fs::metadata(repository.partial(&self.checksum)).map_or(0, |meta| meta.len());
        if there > self.size { self.size } else { self.size - there }
    }

    /// Gets it, unless it is there.
    ///
    /// # Errors
    /// [`Interrupted`]; what the server, the disk or the checksum says.
    pub fn fetch(&self, repository: &Repository, client: &Client<'_>) -> Result<()> {
        if self.is_in(repository) {
            return Ok(());
        }
        let wait =
            || client.reporter.warn(&format!("{}: waiting for another program that fetches it", self.path));
        let _lock = Lock::take(&repository.lock(&self.checksum), &client.stop, wait)?;
        if self.is_in(repository) {
            return Ok(());
        }
        let (mut patience, mut damaged) = (Patience::default(), 0);
        let partial = repository.partial(&self.checksum);
        fs::create_dir_all(partial.parent().unwrap_or(&partial))
            .with_context(|| partial.display().to_string())?;
        loop {
            match self.attempt(&partial, client, &mut patience) {
                Ok(got) if got == self.checksum.digits() => break,
                Ok(got) => {
                    damaged += 1;
                    let _ = fs::remove_file(&partial);
                    let message = self.mismatch(&got);
                    if damaged >= MOST_DAMAGED {
                        return Err(anyhow!(
                            "{}: {message}, {damaged} times: nothing of it is kept",
                            self.path
                        ));
                    }
                    client.reporter.warn(&format!("{}: {message}; fetching it once more", self.path));
                }
                Err(trouble) => patience.bear(&self.path, trouble, client)?,
            }
        }
        let place = repository.blob(&self.checksum);
        fs::rename(&partial, &place).with_context(|| place.display().to_string())?;
        client.reporter.done(&self.path, self.size);
        Ok(())
    }

    fn mismatch(&self, got: &str) -> String {
        format!("{} is {got}, expected {}", self.checksum.kind(), self.checksum.digits())
    }

    /// Appends what is missing; the checksum of the whole.
    fn attempt(
        &self,
        partial: &Path,
        client: &Client<'_>,
        patience: &mut Patience,
    ) -> Result<String, Trouble> {
        let place = || partial.display().to_string();
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(partial)
            .map_err(|e| disk(e, partial))?;
        let mut have = file.metadata().with_context(place)?.len();
        if have > self.size {
            file.set_len(0).map_err(|e| disk(e, partial))?;
            have = 0;
        }
        let mut sum = self.checksum.reader(self.size);
        if have > 0 {
            have = self.read(&mut file, &mut sum, client)?;
        }
        client.reporter.begin(&self.path, self.size, have);
        if have < self.size {
            let mut answer = client.ask(&Method::GET, &self.url, have)?;
            self.check(&answer)?;
            let is_rest = answer.status == 206 && answer.range() == Some((have, self.size));
            if !is_rest {
                file.set_len(0).map_err(|e| disk(e, partial))?;
                if answer.status != 200 {
                    let message = format!("no part from byte {have} on came, but status {}", answer.status);
                    return Err(Trouble::Passing(message, None));
                }
                (have, sum) = (0, self.checksum.reader(self.size));
                client.reporter.begin(&self.path, self.size, 0);
            }
            self.write(&mut answer, &mut file, &mut sum, have, patience).map_err(
                |trouble| match trouble {
                    Outcome::Disk(error) => disk(error, partial),
                    Outcome::Line(trouble) => trouble,
                },
            )?;
        }
        file.sync_all().map_err(|e| disk(e, partial))?;
        Ok(sum.finish())
    }

    /// Sums up what is there.
    fn read(&self, file: &mut File, sum: &mut Reader, client: &Client<'_>) -> Result<u64, Trouble> {
        let (mut piece, mut have) = (vec![0; PIECE], 0);
        loop {
            if client.stop.is_raised() {
                return Err(Interrupted.into());
            }
            match file.read(&mut piece).with_context(|| self.path.clone())? {
                0 => return Ok(have),
                length => {
                    sum.update(&piece[..length]);
                    have += length as u64;
                }
            }
        }
    }

    /// Refuses another file than the one that was listed.
    fn check(&self, answer: &Answer<'_>) -> Result<(), Trouble> {
        let linked = answer.header("x-linked-etag").and_then(Checksum::from_etag);
        match linked {
            Some(other) if other != self.checksum => Err(Trouble::Lasting(anyhow!(
                "{}: the hub now names the checksum {}, and listed {}",
                self.path,
                other.digits(),
                self.checksum.digits()
            ))),
            _ => Ok(()),
        }
    }

    fn write(
        &self,
        answer: &mut Answer<'_>,
        file: &mut File,
        sum: &mut Reader,
        mut have: u64,
        patience: &mut Patience,
    ) -> Result<(), Outcome> {
        let start = have;
        let broken = |trouble, have| match trouble {
            Trouble::Passing(why, wait) => {
                Trouble::Passing(format!("{why} (after {have} of {} bytes)", self.size), wait)
            }
            lasting => lasting,
        };
        while let Some(bytes) = answer.piece().map_err(|trouble| Outcome::Line(broken(trouble, have)))? {
            let length = bytes.len() as u64;
            if have + length > self.size {
                file.set_len(0).map_err(Outcome::Disk)?;
                let error =
                    anyhow!("{}: the server sent more than the {} bytes it listed", self.path, self.size);
                return Err(Outcome::Line(Trouble::Lasting(error)));
            }
            file.write_all(&bytes).map_err(Outcome::Disk)?;
            sum.update(&bytes);
            have += length;
            if have - start >= PROGRESS {
                patience.restore();
            }
            answer.advance(length);
        }
        match have == self.size {
            true => Ok(()),
            false => {
                let message = format!("the connection ended after {have} of {} bytes", self.size);
                Err(Outcome::Line(Trouble::Passing(message, None)))
            }
        }
    }
}

/// What ended a body.
enum Outcome {
    Disk(io::Error),
    Line(Trouble),
}

/// What the disk says, in words that help.
fn disk(error: io::Error, path: &Path) -> Trouble {
    let path = path.display();
    Trouble::Lasting(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => anyhow!(
            "{path}: the disk is full ({error}): what came is kept, and the next pull goes on from there; HF_HUB_CACHE names \
             another place"
        ),
        _ => anyhow!(error).context(path.to_string()),
    })
}
