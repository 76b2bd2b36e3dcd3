//! `dreamglass serve` from the outside; `tests/browser` and `tests/peers` watch it with real peers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::loras;
use crate::program::{self, dreamglass, failed};

const CARD: [&str; 3] = ["--source", "synthetic:128x128@30", "--pass-through"];

fn serve(folder: &Path, more: &[&str]) -> Command {
    let mut command = dreamglass();
    command.arg("serve").args(more).env("XDG_CONFIG_HOME", folder).current_dir(folder);
    command
}

fn refused(more: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    serve(folder.path(), more).output().unwrap()
}

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it said until it listened.
    said: String,
    /// Address and port.
    place: String,
}

impl Server {
    /// One that passes a test card through.
    fn start(folder: &Path, more: &[&str]) -> Self {
        Self::start_only(folder, &[&CARD[..], more].concat())
    }
    fn start_only(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = serve(folder, arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let place = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended: {said}");
            said += &line;
            if let Some((_, place)) = line.trim_end().split_once("listening on http://") {
                break place.trim_end_matches('/').to_string();
            }
        };
        Self { child, stderr, said, place }
    }
    /// The answer to a request, head and body.
    fn get(&self, port_of: &str, path: &str) -> String {
        Self::request(port_of, "GET", path, "")
    }
    /// The same of any request with a body of JSON.
    fn request(port_of: &str, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(port_of).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {port_of}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
    /// Ctrl-C: the exit code and what it said at the end.
    fn end(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn wrong_words_are_named() {
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--bind", "nowhere"], &["--bind", "nowhere"]),
        (&["--token", "a b"], &["--token", "letters"]),
        (&["--view-token", "abcdef"], &["--view-token", "--token"]),
        (&["--token", "same-same", "--view-token", "same-same"], &["--view-token"]),
        (&["--max-viewers", "0"], &["--max-viewers", "0"]),
        (&["--max-bitrate", "fast"], &["--max-bitrate", "50k to 50M"]),
        (&["--min-bitrate", "9M"], &["--min-bitrate", "6000000", "9000000"]),
        (&["--udp-ports", "9-3"], &["--udp-ports", "the lower first"]),
        (&["--whip-to", "ftp://x/"], &["--whip-to", "http"]),
        (&["--whip-token", "t"], &["--whip-to"]),
        (&["--ice-server", "http://stun"], &["http://stun"]),
        (&["--source", "missing.mp4"], &["missing.mp4"]),
    ];
    for (more, words) in cases {
        failed(&refused(more), 2, words);
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    failed(&refused(&[&CARD[..], &["--bind", &place]].concat()), 1, &[&place, "is it free"]);
}

#[test]
fn on_loopback_it_is_open_and_ends_with_its_files_finished() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &["--bind", "127.0.0.1:0", "--output", "kept.mp4"]);
    assert!(!server.said.contains("token"), "{}", server.said);
    assert!(server.get(&server.place, "/").contains("<title>Dreamglass</title>"));
    for _ in 0..100 {
        if server.get(&server.place, "/api/snapshot.jpg").starts_with("HTTP/1.1 200") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    let (code, rest) = server.end();
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("kept.mp4") && rest.contains("main: "), "{rest}");
    let probe = Command::new("ffprobe").args(["-v", "error"]).arg(folder.path().join("kept.mp4")).output();
    assert!(probe.unwrap().status.success(), "{rest}");
}

/// Waits until the answer to `GET path` has `word` in it.
/// llvmpipe has as many threads for compute as there are processors.
#[test]
#[cfg(target_os = "linux")]
fn threads_of_a_cpu_adapter_have_a_processor_each() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &["--bind", "127.0.0.1:0"]);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let task = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let status = fs::read_to_string(path.join("status")).ok()?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some((fs::read_to_string(path.join("comm")).ok()?, allowed.trim().to_string()))
    };
    let tasks: Vec<(String, String)> = tasks.filter_map(task).collect();
    server.end();
    let drawing = tasks.iter().filter(|(name, _)| name.starts_with("llvmpipe-")).count();
    if drawing != processors || processors == 1 {
        eprintln!("skipped: {drawing} threads of llvmpipe on {processors} processors");
        return;
    }
    let mut own: Vec<&String> =
        tasks.iter().map(|(_, on)| on).filter(|on| on.parse::<u32>().is_ok()).collect();
    own.sort();
    own.dedup();
    assert_eq!(own.len(), processors, "{tasks:?}");
    let free = tasks.iter().filter(|(_, on)| on.parse::<u32>().is_err()).count();
    assert_eq!(tasks.len() - free, processors, "others are bound, too: {tasks:?}");
}

fn until(server: &Server, path: &str, word: &str) -> String {
    for _ in 0..600 {
        let answer = server.get(&server.place, path);
        if answer.contains(word) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{path} never says {word}: {}", server.get(&server.place, path))
}

#[test]
fn weights_of_loras_are_parameters_of_a_stream() {
    let (model, folder) = (program::model(program::WHOLE), TempDir::new().unwrap());
    loras::lora(folder.path(), "ink.safetensors", loras::MODULE);
    loras::lora(folder.path(), "glow.safetensors", loras::MODULE);
    let server = Server::start_only(
        folder.path(),
        &[
            &["--source", "synthetic:64x64@30", "--size", "64x48", "--prompt", "x", "--bind", "127.0.0.1:0"]
                [..],
            &["--model", model.path().to_str().unwrap(), "--lora", "ink.safetensors"],
            &["--lora", "glow.safetensors=0.5", "--lora-1", "0.75"],
        ]
        .concat(),
    );
    let schema = server.get(&server.place, "/api/schema");
    let loras = r#""loras":[{"name":"ink","weight":1.0},{"name":"glow","weight":0.5}]"#;
    assert!(schema.contains(loras), "{schema}");
    assert!(server.get(&server.place, "/api/params").contains(r#""lora_1":0.75,"lora_2":"auto""#));
    until(&server, "/api/snapshot.jpg", "200 OK");
    let set = |body: &str| Server::request(&server.place, "PATCH", "/api/params", body);
    assert!(set(r#"{"lora_2": -0.25}"#).contains(r#""lora_2":-0.25"#));
    let refused = set(r#"{"lora_3": 1}"#);
    assert!(
        refused.contains("422") && refused.contains("lora_3") && refused.contains("2 LoRAs"),
        "{refused}"
    );
    until(&server, "/api/stats", r#""phase":"live""#);
    assert!(server.get(&server.place, "/api/stats").contains(r#""failed":0"#));
    let (code, rest) = server.end();
    assert_eq!(code, Some(130), "{rest}");
}

#[test]
fn elsewhere_the_printed_link_lets_in_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &["--bind", "0.0.0.0:0"]);
    let port = server.place.rsplit_once(':').unwrap().1;
    let place = format!("127.0.0.1:{port}");
    let link = server.said.lines().find_map(|line| line.split_once("/?token=")).unwrap().1.trim();
    assert!(link.len() >= 32, "{link}");
    assert!(server.get(&place, "/api/params").starts_with("HTTP/1.1 401"));
    assert!(server.get(&place, &format!("/api/params?token={link}")).starts_with("HTTP/1.1 200"));
    assert!(server.said.contains("/view?token="), "{}", server.said);
    assert_eq!(server.end().0, Some(130));
}

#[test]
fn the_certificate_is_kept() {
    let folder = TempDir::new().unwrap();
    let pem = folder.path().join("cert.pem");
    let arguments = ["--bind", "127.0.0.1:0", "--certificate", "cert.pem"];
    assert_eq!(Server::start(folder.path(), &arguments).end().0, Some(130));
    let first = fs::read_to_string(&pem).unwrap();
    assert_eq!(Server::start(folder.path(), &arguments).end().0, Some(130));
    assert_eq!(fs::read_to_string(&pem).unwrap(), first);
    fs::write(&pem, "nonsense").unwrap();
    failed(&serve(folder.path(), &[&CARD[..], &arguments].concat()).output().unwrap(), 2, &["cert.pem"]);
}
