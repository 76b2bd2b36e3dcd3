//! From a name to a snapshot in the cache.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{Method, Uri};

use super::blob::Blob;
use super::cache::{Cache, Repository};
use super::catalogue::{Terms, terms};
use super::checksum::Checksum;
use super::client::{Client, Patience, Stop, explain};
use super::environment::Environment;
use super::listing::{Entry, Listing};
use super::lock::Lock;
use super::name::Name;
use super::selection::{Selection, Variant};

/// What stays itself in a part of a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one part of a URL's path: slashes are escaped, too.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Hears how a pull goes.
pub trait Reporter {
    /// `path`, of `size` bytes, is being fetched, and `have` of them are there.
    fn begin(&self, path: &str, size: u64, have: u64);
    /// So many more are there.
    fn advance(&self, bytes: u64);
    /// `path` is there and was checked.
    fn done(&self, path: &str, size: u64);
    /// All that is to come, in bytes.
    fn total(&self, bytes: u64);
    /// Something went wrong that may yet go right.
    fn warn(&self, text: &str);
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// Which weights, where it has them twice.
    pub variant: Variant,
}

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Where it is: what to load.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
    /// Bytes that were to be fetched.
    pub fetched: u64,
    /// Bytes of all its files.
    pub size: u64,
}

/// A pull whose files are known and not yet fetched.
pub struct Pull<'a> {
    client: Client<'a>,
    environment: &'a Environment,
    wanted: &'a Wanted,
    repository: Repository,
    listing: Listing,
    selection: Selection,
}

impl<'a> Pull<'a> {
    /// Asks the hub what there is.
    ///
    /// # Errors
    /// Where there is nothing of that name, it is not for this token, or it has nothing that can be used.
    pub fn ask(
        wanted: &'a Wanted,
        environment: &'a Environment,
        stop: &Stop,
        reporter: &'a dyn Reporter,
    ) -> Result<Self> {
        let client = Client::new(environment, stop.clone(), reporter);
        let Wanted { name, variant } = wanted;
        let listing = Listing::fetch(name, &client)
            .map_err(|e| explain(e, &name.repository, name.revision(), None, &environment.endpoint))?;
        let selection = Selection::new(&listing, name, *variant)?;
        let repository = Cache::new(environment.cache.clone()).repository(&name.repository);
        Ok(Self { client, environment, wanted, repository, listing, selection })
    }

    /// What its licence asks.
    pub fn terms(&self) -> Terms {
        let Listing { licence, licence_link, .. } = &self.listing;
        terms(&self.wanted.name, licence.clone(), licence_link.clone())
    }

    /// The commit that the revision is at.
    pub fn commit(&self) -> &str {
        &self.listing.commit
    }

    /// Whether all files that are known to be needed are there, so that nobody has to be asked for anything.
    pub fn is_there(&self) -> bool {
        let snapshot = self.repository.snapshot(&self.listing.commit);
        self.selection.files.iter().all(|entry| snapshot.folder.join(&entry.path).is_file())
    }

    /// Fetches what is missing, checks it and links it.
    ///
    /// # Errors
    /// [`super::Interrupted`]; what the server, the disk or a checksum says.
    pub fn run(mut self) -> Result<Pulled> {
        let Name { repository: id, file, .. } = &self.wanted.name;
        let (revision, hub) = (self.wanted.name.revision(), &self.environment.endpoint);
        let explained = |error| explain(error, id, revision, file.as_deref(), hub);
        let wait = || self.client.reporter.warn(&format!("{id}: waiting for another pull of it"));
        let _lock = Lock::take(&self.repository.own_lock(), &self.client.stop, wait)?;
        for index in self.selection.indices.clone() {
            let blobs = self.blobs(&index).map_err(explained)?;
            self.fetch(&blobs).map_err(explained)?;
            for blob in &blobs {
                let path = self.repository.blob(&blob.checksum);
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                self.selection.add_shards(&self.listing, &index, &bytes)?;
            }
        }
        let blobs = self.blobs("").map_err(explained)?;
        let fetched = blobs.iter().map(|blob| blob.missing(&self.repository)).sum();
        self.check_space(fetched)?;
        self.client.reporter.total(fetched);
        self.fetch(&blobs).map_err(explained)?;
        let mut files: Vec<(String, Checksum)> =
            blobs.iter().map(|blob| (blob.path.clone(), blob.checksum.clone())).collect();
        // By the index a folder counts as a model.
        files.sort_by_key(|(path, _)| path == "model_index.json");
        let snapshot = self.repository.link(&self.listing.commit, &files)?;
        self.repository.write_ref(revision, &self.listing.commit)?;
        Ok(Pulled {
            path: snapshot.path(&self.wanted.name)?,
            commit: self.listing.commit.clone(),
            fetched,
            size: blobs.iter().map(|blob| blob.size).sum(),
        })
    }

    /// The selected files, or the one called `only`, with sizes and checksums.
    fn blobs(&self, only: &str) -> Result<Vec<Blob>> {
        let files = self.selection.files.iter().filter(|entry| only.is_empty() || entry.path == only);
        files.map(|entry| self.blob(entry)).collect()
    }

    fn blob(&self, entry: &Entry) -> Result<Blob> {
        let Name { repository, .. } = &self.wanted.name;
        let path: Vec<String> = entry.path.split('/').map(escape).collect();
        let url = format!("{repository}/resolve/{}/{}", self.listing.commit, path.join("/"));
        let url = self.client.url(&url)?;
        let (size, checksum) = match (entry.size, &entry.checksum) {
            (Some(size), Some(checksum)) => (size, checksum.clone()),
            // Mirrors may list names alone.
            _ => self.describe(&entry.path, &url)?,
        };
        Ok(Blob { path: entry.path.clone(), url, size, checksum })
    }

    /// Size and checksum of a file by its headers.
    fn describe(&self, path: &str, url: &Uri) -> Result<(u64, Checksum)> {
        let mut patience = Patience::default();
        let answer = loop {
            match self.client.ask(&Method::HEAD, url, 0) {
                Ok(answer) => break answer,
                Err(trouble) => patience.bear(path, trouble, &self.client)?,
            }
        };
        let etag = answer.header("x-linked-etag").or(answer.header("etag"));
        let size = answer.header("x-linked-size").and_then(|size| size.parse().ok()).or(answer.length());
        match (size, etag.and_then(Checksum::from_etag)) {
            (Some(size), Some(checksum)) => Ok((size, checksum)),
            _ => Err(anyhow!(
                "{path}: the hub says neither in its list nor in headers how large the file is and what its \
                              checksum is: it cannot be checked, and is not fetched"
            )),
        }
    }

    fn fetch(&self, blobs: &[Blob]) -> Result<()> {
        blobs.iter().try_for_each(|blob| blob.fetch(&self.repository, &self.client))
    }

    /// Refuses to begin what the disk cannot hold.
    fn check_space(&self, bytes: u64) -> Result<()> {
        let cache = &self.environment.cache;
        std::fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
        match free_bytes(cache) {
            Some(free) if free < bytes => Err(anyhow!(
                "{}: {} are to come and {} are free on the disk of {}; HF_HUB_CACHE names another place",
                self.wanted.name,
                indicatif::BinaryBytes(bytes),
                indicatif::BinaryBytes(free),
                cache.display()
            )),
            _ => Ok(()),
        }
    }
}

/// Bytes that a user may write on the disk of `folder`, where the system says.
fn free_bytes(folder: &std::path::Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
