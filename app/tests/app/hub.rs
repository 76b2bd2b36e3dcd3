//! A server that behaves like the Hugging Face hub and the network behind it, on request in every bad way.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::dreamglass;

/// The commit of every repository.
pub const COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
/// Files from this size on are in LFS, behind a redirection to another port.
const LFS_BYTES: usize = 20_000;

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status with headers, and no body.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The connection stays open and silent after so many bytes.
    Silent(usize),
    /// Pieces of so many bytes, each after some milliseconds.
    Slow(usize, u64),
    /// One byte is another.
    Damaged,
    /// More bytes than listed.
    Longer,
    /// The whole, though a part was asked for.
    Whole,
    /// Another place.
    Elsewhere(String),
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whether it came to the port that files are redirected to.
    pub is_cdn: bool,
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// First byte of the range that was asked for.
    pub from: Option<u64>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// Bytes of a file that were sent.
    pub sent: u64,
}

/// A repository.
#[derive(Default)]
struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    card: Value,
    token: Option<&'static str>,
    is_bare: bool,
    /// Listed as well, with nothing behind it.
    listed: Vec<Value>,
}

#[derive(Default)]
struct State {
    repositories: Mutex<BTreeMap<String, Repository>>,
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    seen: Mutex<Vec<Seen>>,
    ports: Mutex<[u16; 2]>,
}

/// The server, and a cache to pull into.
pub struct Hub {
    state: Arc<State>,
    home: TempDir,
}

impl Hub {
    /// A hub with nothing on it.
    pub fn new() -> Self {
        let state = Arc::new(State::default());
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        *state.ports.lock().unwrap() = [0, 1].map(|ix: usize| listeners[ix].local_addr().unwrap().port());
        for (ix, listener) in listeners.into_iter().enumerate() {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that leaves early is no failure of the server's.
                    thread::spawn(move || state.serve(stream, ix == 1));
                }
            });
        }
        Self { state, home: TempDir::new().unwrap() }
    }
    /// A hub with the embedded model as `dreamglass/demo`, under a permissive licence.
    pub fn with_demo() -> Self {
        let hub = Self::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo");
        let mut files = read(&root);
        files.push(("unet/diffusion_pytorch_model.bin".into(), b"a pickle".to_vec()));
        hub.publish("dreamglass/demo", files, json!({"license": "mit"}));
        hub
    }
    /// Publishes a repository.
    pub fn publish(&self, name: &str, files: Vec<(String, Vec<u8>)>, card: Value) {
        let repository = Repository { files: files.into_iter().collect(), card, ..Default::default() };
        self.state.repositories.lock().unwrap().insert(name.into(), repository);
    }
    /// Lets only those in who have `token`.
    pub fn gate(&self, name: &str, token: &'static str) {
        self.state.repositories.lock().unwrap().get_mut(name).unwrap().token = Some(token);
    }
    /// Lists names alone, as some mirrors do.
    pub fn strip(&self, name: &str) {
        self.state.repositories.lock().unwrap().get_mut(name).unwrap().is_bare = true;
    }
    /// Lists a file that is not there, in the hub's words.
    pub fn list(&self, name: &str, entry: Value) {
        self.state.repositories.lock().unwrap().get_mut(name).unwrap().listed.push(entry);
    }
    /// What goes wrong with the next requests whose path ends in `path`, one fault a request; files in LFS have them
    /// where they are sent from.
    pub fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.lock().unwrap().push((path.into(), faults.into_iter().collect()));
    }
    /// Requests so far whose path ends in `path`.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|request| request.path.ends_with(path)).cloned().collect()
    }
    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.ports.lock().unwrap()[0])
    }
    /// The folder of the cache.
    pub fn cache(&self) -> std::path::PathBuf {
        self.home.path().join("hub")
    }
    /// The program, with this hub and its cache in its environment and nothing else of the kind.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = dreamglass();
        let names =
            ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"];
        let proxies =
            ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE", "DREAMGLASS_MODEL"];
        names.iter().chain(&proxies).for_each(|name| {
            command.env_remove(name);
        });
        command
            .env("HF_ENDPOINT", self.url())
            .env("HF_HOME", self.home.path())
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
        command.args(arguments);
        command
    }
    /// Where a token's file is.
    pub fn token_file(&self) -> std::path::PathBuf {
        self.home.path().join("token")
    }
    /// Checks that everything in `snapshots/` is a link to a file with the checksum that it is called by.
    #[track_caller]
    pub fn check_cache(&self) {
        let found = read(&self.cache());
        for (path, bytes) in found.iter().filter(|(path, _)| path.contains("/snapshots/")) {
            let blob = fs::canonicalize(self.cache().join(path)).unwrap();
            let digits = blob.file_name().unwrap().to_str().unwrap().to_owned();
            assert!([sha256(bytes), git(bytes)].contains(&digits), "{path} is not what it should be");
        }
        for (path, bytes) in found.iter().filter(|(path, _)| path.contains("/refs/")) {
            let commit = String::from_utf8(bytes.clone()).unwrap();
            let repository = path.split('/').next().unwrap();
            assert!(self.cache().join(repository).join("snapshots").join(commit).is_dir(), "{path}");
        }
    }
    /// Paths of all files in the cache.
    pub fn cached(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.cache(), "", &mut found);
        found
    }
}

/// Paths of all files below `folder`, links followed, sorted; they may come and go meanwhile.
fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let path = format!("{prefix}{name}");
        if folder.join(&name).is_dir() {
            walk(&folder.join(&name), &(path + "/"), found);
        } else {
            found.push(path);
        }
    }
}

/// All files below `folder` with their contents.
fn read(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    walk(folder, "", &mut found);
    let contents = |path: &String| fs::read(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    found.iter().map(|path| (path.clone(), contents(path))).collect()
}

fn digits(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    digits(context)
}

pub fn git(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", bytes.len()).as_bytes());
    context.update(bytes);
    digits(context)
}

/// What a request asks.
struct Asked {
    is_cdn: bool,
    method: String,
    path: String,
    from: Option<usize>,
    authorization: Option<String>,
}

type Headers = Vec<(String, String)>;

fn header(name: &str, value: impl ToString) -> (String, String) {
    (name.into(), value.to_string())
}

impl State {
    fn serve(&self, mut stream: TcpStream, is_cdn: bool) {
        let Some(asked) = request(&stream, is_cdn) else { return };
        self.seen.lock().unwrap().push(Seen {
            is_cdn,
            method: asked.method.clone(),
            path: asked.path.clone(),
            from: asked.from.map(|from| from as u64),
            authorization: asked.authorization.clone(),
            sent: 0,
        });
        let at = self.seen.lock().unwrap().len() - 1;
        let sent = self.answer(&mut stream, &asked);
        self.seen.lock().unwrap()[at].sent = sent;
    }

    fn answer(&self, stream: &mut TcpStream, asked: &Asked) -> u64 {
        let mut segments = asked.path.trim_start_matches('/').split('/');
        let is_api = asked.path.starts_with("/api/models/");
        if is_api {
            segments.by_ref().take(2).for_each(drop);
        }
        let name = format!("{}/{}", segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let rest: Vec<&str> = segments.collect();
        let (body, mut headers) = {
            let repositories = self.repositories.lock().unwrap();
            let Some(repository) = repositories.get(&name) else {
                drop(repositories);
                return reply(stream, 401, &[header("X-Error-Code", "RepoNotFound")], b"", None);
            };
            let is_let_in =
                repository.token.is_none_or(|token| asked.authorization == Some(format!("Bearer {token}")));
            if is_api {
                if rest.get(1).is_none_or(|revision| !["main", COMMIT, "refs%2Fpr%2F1"].contains(revision)) {
                    return reply(stream, 404, &[header("X-Error-Code", "RevisionNotFound")], b"", None);
                }
                (repository.listing().to_string().into_bytes(), Headers::new())
            } else {
                if !is_let_in && !asked.is_cdn {
                    let status = if asked.authorization.is_none() { 401 } else { 403 };
                    return reply(stream, status, &[header("X-Error-Code", "GatedRepo")], b"", None);
                }
                let path = rest[2..].join("/").replace("%20", " ");
                let Some(bytes) = repository.files.get(&path) else {
                    return reply(stream, 404, &[header("X-Error-Code", "EntryNotFound")], b"", None);
                };
                (bytes.clone(), vec![header("X-Repo-Commit", COMMIT), header("Accept-Ranges", "bytes")])
            }
        };
        if !is_api && body.len() >= LFS_BYTES && !asked.is_cdn {
            let port = self.ports.lock().unwrap()[1];
            headers
                .push(header("Location", format!("http://127.0.0.1:{port}{}?signature=secret", asked.path)));
            headers.push(header("X-Linked-Etag", format!("\"{}\"", sha256(&body))));
            headers.push(header("X-Linked-Size", body.len()));
            return reply(stream, 302, &headers, b"", None);
        }
        headers.push(header("ETag", format!("\"{}\"", git(&body))));
        let fault = self.fault(&asked.path);
        send(stream, asked, &headers, body, fault)
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        faults
            .iter_mut()
            .find(|(end, faults)| path.ends_with(end.as_str()) && !faults.is_empty())?
            .1
            .pop_front()
    }
}

impl Repository {
    fn listing(&self) -> Value {
        let entry = |(path, bytes): (&String, &Vec<u8>)| match bytes.len() {
            _ if self.is_bare => json!({"rfilename": path}),
            size if size >= LFS_BYTES => {
                let lfs = json!({"sha256": sha256(bytes), "size": size, "pointerSize": 134});
                json!({"rfilename": path, "size": size, "blobId": git(b"pointer"), "lfs": lfs})
            }
            size => json!({"rfilename": path, "size": size, "blobId": git(bytes)}),
        };
        let files: Vec<Value> = self.files.iter().map(entry).chain(self.listed.iter().cloned()).collect();
        json!({"id": "x", "sha": COMMIT, "siblings": files, "cardData": self.card, "tags": []})
    }
}

/// Sends a file, or what a fault makes of it; how many of its bytes.
fn send(
    stream: &mut TcpStream,
    asked: &Asked,
    headers: &Headers,
    mut body: Vec<u8>,
    fault: Option<Fault>,
) -> u64 {
    let size = body.len();
    let mut headers = headers.clone();
    let from = asked.from.filter(|_| !matches!(fault, Some(Fault::Whole)));
    let mut status = 200;
    match from {
        Some(from) if from >= size => {
            headers.push(header("Content-Range", format!("bytes */{size}")));
            return reply(stream, 416, &headers, b"", None);
        }
        Some(from) => {
            headers.push(header("Content-Range", format!("bytes {from}-{}/{size}", size - 1)));
            (body, status) = (body[from..].to_vec(), 206);
        }
        None => {}
    }
    match fault {
        Some(Fault::Status(status, more)) => {
            let more: Headers = more.iter().map(|(name, value)| header(name, value)).collect();
            return reply(stream, status, &more, b"", None);
        }
        Some(Fault::Elsewhere(place)) => return reply(stream, 302, &[header("Location", place)], b"", None),
        Some(Fault::Damaged) => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        Some(Fault::Longer) => body.extend([0; 100]),
        _ => {}
    }
    if asked.method == "HEAD" {
        headers.push(header("Content-Length", body.len()));
        let _ = stream.write_all(head(status, &headers).as_bytes());
        return 0;
    }
    reply(stream, status, &headers, &body, fault.as_ref())
}

fn head(status: u16, headers: &[(String, String)]) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n{lines}\r\n")
}

/// Writes an answer; how many bytes of the body went out.
fn reply(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    fault: Option<&Fault>,
) -> u64 {
    let mut headers = headers.to_vec();
    headers.push(header("Content-Length", body.len()));
    let _ = stream.write_all(head(status, &headers).as_bytes());
    let (end, piece, pause) = match fault {
        Some(Fault::Cut(end) | Fault::Silent(end)) => ((*end).min(body.len()), 4096, 0),
        Some(Fault::Slow(piece, pause)) => (body.len(), *piece, *pause),
        _ => (body.len(), 1 << 20, 0),
    };
    let mut sent = 0;
    for piece in body[..end].chunks(piece) {
        thread::sleep(Duration::from_millis(pause));
        if stream.write_all(piece).is_err() {
            return sent;
        }
        sent += piece.len() as u64;
    }
    if matches!(fault, Some(Fault::Silent(_))) {
        thread::sleep(Duration::from_secs(4));
    }
    sent
}

fn request(stream: &TcpStream, is_cdn: bool) -> Option<Asked> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let from = value("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let path = target.split('?').next()?.to_owned();
    Some(Asked { is_cdn, method, path, from, authorization: value("authorization") })
}
