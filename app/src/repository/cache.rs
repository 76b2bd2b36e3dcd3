//! The cache on disk, in huggingface_hub's layout.
//!
//! `models--OWNER--NAME/blobs/CHECKSUM` are files, `snapshots/COMMIT/PATH` links to them, `refs/REVISION` says which
//! commit a branch or tag was at. A link is only made to a file that was checked, a ref only when all links are there.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::checksum::Checksum;
use super::name::{Name, check_revision, is_hex};
use crate::failure::bad_input;

/// Largest file of a ref or a card that is read.
const MOST_TEXT: u64 = 1 << 20;

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// One repository of the cache.
#[derive(Debug, Clone)]
pub struct Repository {
    /// `OWNER/NAME`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The folder of its locks.
    pub locks: PathBuf,
}

/// The files of one commit.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `OWNER/NAME`.
    pub repository: String,
    /// 40 hexadecimal digits.
    pub commit: String,
    /// Where the links are.
    pub folder: PathBuf,
}

/// A file of a snapshot.
#[derive(Debug, Clone)]
pub struct Linked {
    /// Relative, with `/`.
    pub path: String,
    /// What the link leads to.
    pub blob: PathBuf,
    /// Its size.
    pub size: u64,
}

impl Cache {
    /// The cache in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// The repository called `name`, which need not be there.
    pub fn repository(&self, name: &str) -> Repository {
        let folder = format!("models--{}", name.replace('/', "--"));
        let locks = self.folder.join(".locks").join(&folder);
        Repository { name: name.into(), folder: self.folder.join(folder), locks }
    }
    /// Every repository of models, by name.
    ///
    /// # Errors
    /// Where the folder cannot be read; none where there is none.
    pub fn repositories(&self) -> Result<Vec<Repository>> {
        let mut found: Vec<Repository> = names(&self.folder)?
            .iter()
            .filter_map(|folder| folder.strip_prefix("models--")?.split_once("--"))
            .map(|(owner, name)| format!("{owner}/{name}"))
            .filter(|name| name.parse::<Name>().is_ok())
            .map(|name| self.repository(&name))
            .collect();
        found.sort_by_key(|repository| repository.name.to_lowercase());
        Ok(found)
    }
    /// What `name` stands for, if it is there.
    ///
    /// # Errors
    /// Where the cache cannot be read.
    pub fn snapshot(&self, name: &Name) -> Result<Option<Snapshot>> {
        let repository = self.repository(&name.repository);
        let commit = repository.commit(name.revision())?;
        let snapshot = commit.map(|commit| repository.snapshot(&commit));
        let has_file = |snapshot: &Snapshot| match &name.file {
            Some(file) => snapshot.folder.join(file).is_file(),
            None => snapshot.folder.is_dir(),
        };
        Ok(snapshot.filter(has_file))
    }
}

/// Names in `folder`; none where it is not there.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// A small file's text; none where there is none.
fn text(path: &Path) -> Option<String> {
    let is_small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_TEXT);
    is_small.then(|| fs::read_to_string(path).ok()).flatten()
}

impl Repository {
    /// Where a file is once it was checked.
    pub fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(checksum.digits())
    }
    /// Where it is until then.
    pub fn partial(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", checksum.digits()))
    }
    /// The lock of a file, as huggingface_hub has it.
    pub fn lock(&self, checksum: &Checksum) -> PathBuf {
        self.locks.join(format!("{}.lock", checksum.digits()))
    }
    /// The lock of the links: who pulls and who removes keep out of each other's way.
    pub fn own_lock(&self) -> PathBuf {
        self.locks.join("dreamglass.lock")
    }
    /// The files of `commit`, which need not be there.
    pub fn snapshot(&self, commit: &str) -> Snapshot {
        let folder = self.folder.join("snapshots").join(commit);
        Snapshot { repository: self.name.clone(), commit: commit.into(), folder }
    }
    /// The commit that `revision` was at when it was pulled.
    ///
    /// # Errors
    /// Where the ref is damaged.
    pub fn commit(&self, revision: &str) -> Result<Option<String>> {
        if is_hex(revision, 40) {
            return Ok(Some(revision.into()));
        }
        let path = self.folder.join("refs").join(revision);
        let Some(commit) = text(&path) else { return Ok(None) };
        match commit.trim() {
            commit if is_hex(commit, 40) => Ok(Some(commit.into())),
            other => Err(bad_input(format!("{}: holds {other:?}, expected a commit", path.display()))),
        }
    }
    /// Branches and tags, and the commits they were at.
    ///
    /// # Errors
    /// Where the cache cannot be read.
    pub fn refs(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for path in walk(&self.folder.join("refs"))? {
            let commit = check_revision(&path).ok().and_then(|()| self.commit(&path).ok().flatten());
            found.extend(commit.map(|commit| (path, commit)));
        }
        Ok(found)
    }
    /// The commits that have files, sorted.
    ///
    /// # Errors
    /// Where the cache cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut commits = names(&self.folder.join("snapshots"))?;
        commits.retain(|commit| is_hex(commit, 40));
        commits.sort();
        Ok(commits.iter().map(|commit| self.snapshot(commit)).collect())
    }

    /// Makes the snapshot of `commit`, or adds to it. Where it is new, it appears at once with all of `files`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn link(&self, commit: &str, files: &[(String, Checksum)]) -> Result<Snapshot> {
        let snapshot = self.snapshot(commit);
        if snapshot.folder.is_dir() {
            files.iter().try_for_each(|(path, checksum)| self.link_file(&snapshot.folder, path, checksum))?;
            return Ok(snapshot);
        }
        let all = self.folder.join("snapshots");
        fs::create_dir_all(&all).with_context(|| all.display().to_string())?;
        // Beside the snapshots, where nobody looks for any.
        let new = tempfile::Builder::new().prefix(".snapshot").tempdir_in(&self.folder);
        let new = new.with_context(|| self.folder.display().to_string())?;
        let root = new.path().join(commit);
        fs::create_dir(&root).with_context(|| root.display().to_string())?;
        files.iter().try_for_each(|(path, checksum)| self.link_file(&root, path, checksum))?;
        fs::rename(&root, &snapshot.folder).with_context(|| snapshot.folder.display().to_string())?;
        Ok(snapshot)
    }

    /// Links `path` below `root`, the folder of a snapshot or what becomes one.
    fn link_file(&self, root: &Path, path: &str, checksum: &Checksum) -> Result<()> {
        let (place, blob) = (root.join(path), self.blob(checksum));
        let there = || place.display().to_string();
        let folder = place.parent().unwrap_or(root);
        fs::create_dir_all(folder).with_context(there)?;
        // As seen from `snapshots/COMMIT/PATH`, wherever `root` is for now.
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{}", checksum.digits()));
        if fs::read_link(&place).is_ok_and(|old| old == target) {
            return Ok(());
        }
        let new = tempfile::Builder::new().prefix(".link").make_in(folder, |new| {
            // Systems that let not everybody make links have hard ones.
            symlink(&target, new).or_else(|_| fs::hard_link(&blob, new))
        });
        new.and_then(|new| new.persist(&place).map_err(|e| e.error)).with_context(there)?;
        Ok(())
    }

    /// Notes that `revision` is at `commit`; a commit is its own note.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let place = || path.display().to_string();
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).with_context(place)?;
        let mut file = tempfile::Builder::new().prefix(".ref").tempfile_in(folder).with_context(place)?;
        io::Write::write_all(&mut file, commit.as_bytes()).with_context(place)?;
        file.persist(&path).map_err(|e| e.error).with_context(place)?;
        Ok(())
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Paths of all files below `folder`, with `/`, sorted; links are files.
pub fn walk(folder: &Path) -> Result<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(at) = open.pop() {
        for name in names(&folder.join(&at))? {
            let path = format!("{at}{name}");
            let is_folder = fs::symlink_metadata(folder.join(&path)).is_ok_and(|meta| meta.is_dir());
            if is_folder { open.push(path + "/") } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

impl Snapshot {
    /// What to load for `name`: a folder, or a file where one is named or is alone.
    ///
    /// # Errors
    /// Where several files could be meant.
    pub fn path(&self, name: &Name) -> Result<PathBuf> {
        if let Some(file) = &name.file {
            return Ok(self.folder.join(file));
        }
        let has = |path: &str| self.folder.join(path).is_file();
        if has("model_index.json")
            || has("unet/config.json")
            || has("config.json")
            || has("taesd_encoder.safetensors")
        {
            return Ok(self.folder.clone());
        }
        let mut files = walk(&self.folder)?;
        files.retain(|path| path.ends_with(".safetensors"));
        match &files[..] {
            [file] => Ok(self.folder.join(file)),
            [] => Ok(self.folder.clone()),
            _ => Err(bad_input(format!(
                "{name}: say which file is meant, as in {}/{}",
                self.repository, files[0]
            ))),
        }
    }
    /// Its files, those whose link leads nowhere left out.
    ///
    /// # Errors
    /// Where the cache cannot be read.
    pub fn files(&self) -> Result<Vec<Linked>> {
        let linked = |path: String| {
            let blob = fs::canonicalize(self.folder.join(&path)).ok()?;
            let size = fs::metadata(&blob).ok().filter(|meta| meta.is_file())?.len();
            Some(Linked { path, blob, size })
        };
        Ok(walk(&self.folder)?.into_iter().filter_map(linked).collect())
    }
    /// The licence that its card names.
    pub fn licence(&self) -> Option<String> {
        licence_in(&self.folder)
    }
    /// The snapshot that `path` is in, if it is one of a cache.
    pub fn around(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path
            .components()
            .map(|part| match part {
                Component::Normal(part) => part.to_str(),
                _ => Some(""),
            })
            .collect::<Option<_>>()?;
        let at = parts.iter().rposition(|part| *part == "snapshots")?;
        let (repository, commit) = (parts.get(at.checked_sub(1)?)?, parts.get(at + 1)?);
        let (owner, name) = repository.strip_prefix("models--")?.split_once("--")?;
        let folder = path.components().take(at + 2).collect();
        Some(Self { repository: format!("{owner}/{name}"), commit: commit.to_string(), folder })
    }
}

/// The licence that the card in `folder` names, if there is one.
pub fn licence_in(folder: &Path) -> Option<String> {
    card_licence(&text(&folder.join("README.md"))?)
}

/// `license` of a card's front matter, or the name of one of its own.
fn card_licence(card: &str) -> Option<String> {
    let (matter, _) = card.strip_prefix("---")?.split_once("\n---")?;
    let field = |name: &str| {
        let value = matter.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    let licence = field("license")?;
    Some(field("license_name").filter(|_| licence == "other").unwrap_or(licence))
}

/// Refuses a folder of the cache that lies elsewhere, by a link.
pub fn check_inside(cache: &Path, folder: &Path) -> Result<()> {
    let is_link = fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_symlink());
    let inside = fs::canonicalize(cache).and_then(|cache| Ok(fs::canonicalize(folder)?.starts_with(cache)));
    match !is_link && inside.with_context(|| folder.display().to_string())? {
        true => Ok(()),
        false => Err(anyhow!("{} is a link out of the cache: nothing is removed", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repository(folder: &Path) -> Repository {
        let repository = Cache::new(folder.into()).repository("a/b");
        fs::create_dir_all(repository.folder.join("blobs")).unwrap();
        repository
    }

    #[test]
    #[cfg(unix)]
    fn links_are_huggingface_hubs() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(folder.path());
        let checksum = Checksum::Git(COMMIT.into());
        fs::write(repository.blob(&checksum), "{}").unwrap();
        let files = [("unet/config.json".to_owned(), checksum.clone()), ("x".to_owned(), checksum.clone())];
        for _ in 0..2 {
            let snapshot = repository.link(COMMIT, &files).unwrap();
            let link = fs::read_link(snapshot.folder.join("unet/config.json")).unwrap();
            assert_eq!(link, Path::new(&format!("../../../blobs/{COMMIT}")));
            assert_eq!(fs::read_to_string(snapshot.folder.join("x")).unwrap(), "{}");
        }
        assert_eq!(names(&repository.folder).unwrap().len(), 2, "nothing else is left");
        repository.write_ref("refs/pr/1", COMMIT).unwrap();
        assert_eq!(repository.refs().unwrap(), [("refs/pr/1".into(), COMMIT.into())]);
        let name: Name = "a/b@refs/pr/1".parse().unwrap();
        let snapshot = Cache::new(folder.path().into()).snapshot(&name).unwrap().unwrap();
        assert_eq!(snapshot.path(&name).unwrap(), snapshot.folder);
        let around = Snapshot::around(&snapshot.folder.join("unet/config.json")).unwrap();
        assert_eq!((around.repository.as_str(), around.folder), ("a/b", snapshot.folder));
        fs::write(repository.folder.join("refs/main"), "../../etc").unwrap();
        assert!(repository.commit("main").is_err());
        assert_eq!(Cache::new(folder.path().into()).repositories().unwrap().len(), 1);
    }

    #[test]
    fn cards_name_licences() {
        let card = |matter: &str| card_licence(&format!("---\n{matter}\n---\n# Model\nlicense: no\n"));
        assert_eq!(card("tags: x\nlicense: mit").as_deref(), Some("mit"));
        assert_eq!(card("license: other\nlicense_name: \"sai\"").as_deref(), Some("sai"));
        assert_eq!(card("tags: x"), None);
        assert_eq!(card_licence("# Model\nlicense: mit\n"), None);
    }
}
