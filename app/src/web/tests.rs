#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tower::ServiceExt;

use super::*;
use crate::rtc::{Rtc, RtcConfig};

const CONTROL: &str = "control-token";
const VIEW: &str = "view-token";

/// One hub for all tests: opening a device takes longer than any of them.
fn hub() -> Arc<Hub> {
    static HUB: OnceLock<Arc<Hub>> = OnceLock::new();
    let start = || Arc::new(Hub::start(crate::hub::tests::setup(&Arc::default()), Vec::new()).unwrap());
    Arc::clone(HUB.get_or_init(start))
}

struct Site {
    app: Arc<App>,
    folder: TempDir,
}

impl Site {
    fn new(access: Access) -> Self {
        let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let rtc = Rtc::new(RtcConfig { addresses, ..Default::default() }).unwrap();
        let viewers = Arc::new(Semaphore::new(2));
        let folder = TempDir::new().unwrap();
        let setup = Setup {
            hub: hub(),
            peers: Peers::new(rtc, hub(), Arc::clone(&viewers), 2),
            access,
            viewers,
            presets: Shelf::at(folder.path()),
            ice_servers: Vec::new(),
        };
        Self { app: App::new(setup), folder }
    }
    fn open() -> Self {
        Self::new(Access::new(None, vec!["stage.local".into()], Vec::new()))
    }
    fn locked() -> Self {
        let tokens = Tokens { control: CONTROL.into(), view: VIEW.into() };
        Self::new(Access::new(Some(tokens), Vec::new(), vec!["https://friend.example".into()]))
    }
    async fn ask(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
        let mut request = request;
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5000))));
        let response = router(&self.app).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, 1 << 20).await.unwrap().to_vec())
    }
    async fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.ask(request(method, path, headers, "")).await.0.as_u16()
    }
    /// As JSON, from this machine.
    async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("host", "localhost"), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, answer) = self.ask(request(method, path, &headers, &body)).await;
        (status.as_u16(), serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn everything_is_locked_without_a_token() {
    let site = Site::locked();
    let (bearer, view) = (format!("Bearer {CONTROL}"), format!("Bearer {VIEW}"));
    // Path, method, status without a token, with the viewers' one and with the other.
    let table = [
        ("GET", "/healthz", 200, 200, 200),
        ("GET", "/", 401, 403, 200),
        ("GET", "/view", 401, 200, 200),
        ("GET", "/assets/app.js", 401, 200, 200),
        ("GET", "/assets/none.js", 401, 404, 404),
        ("GET", "/api/params", 401, 200, 200),
        ("PATCH", "/api/params", 401, 403, 415),
        ("GET", "/api/presets", 401, 403, 200),
        ("PUT", "/api/presets/a", 401, 403, 200),
        ("GET", "/api/viewer-link", 401, 403, 200),
        ("GET", "/metrics", 401, 200, 200),
        ("POST", "/whep", 401, 415, 415),
        ("POST", "/whip/main", 401, 403, 415),
        ("DELETE", "/peers/0123", 401, 404, 404),
        ("GET", "/nothing", 401, 404, 404),
        ("DELETE", "/api/params", 401, 403, 405),
    ];
    for (method, path, without, as_viewer, as_owner) in table {
        assert_eq!(site.status(method, path, &[]).await, without, "{method} {path}");
        let got = site.status(method, path, &[("authorization", &view)]).await;
        assert_eq!(got, as_viewer, "{method} {path} as a viewer");
        let got = site.status(method, path, &[("authorization", &bearer)]).await;
        assert_eq!(got, as_owner, "{method} {path} as the owner");
    }
    let (_, headers, _) = site.ask(request("GET", "/api/params", &[], "")).await;
    assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn a_link_leaves_a_cookie_and_strangers_pages_cannot_use_it() {
    let site = Site::locked();
    let (status, headers, _) =
        site.ask(request("GET", &format!("/?stream=a&token={CONTROL}"), &[("host", "stage")], "")).await;
    assert_eq!((status, &headers[header::LOCATION]), (StatusCode::SEE_OTHER, &"/?stream=a".parse().unwrap()));
    let cookie = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let with = |origin| [("host", "stage"), ("cookie", cookie), ("origin", origin)];
    assert_eq!(site.status("GET", "/api/presets", &with("http://stage")).await, 200);
    assert_eq!(site.status("GET", "/api/presets", &with("http://evil.example")).await, 403);
    assert_eq!(site.status("GET", "/api/presets", &with("https://friend.example")).await, 200);
    // Not to another server.
    let (_, headers, _) =
        site.ask(request("GET", &format!("//evil.example/?token={CONTROL}"), &[], "")).await;
    assert!(!headers.contains_key(header::LOCATION));
    // The friend may ask first, and reads the answer.
    let ask =
        [("host", "stage"), ("origin", "https://friend.example"), ("access-control-request-method", "PATCH")];
    let (status, headers, _) = site.ask(request("OPTIONS", "/api/params", &ask, "")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://friend.example");
}

#[tokio::test]
async fn guessing_tokens_is_slow() {
    let site = Site::locked();
    for n in 0..20 {
        let wrong = format!("Bearer guess-{n}");
        assert_eq!(site.status("GET", "/api/params", &[("authorization", &wrong)]).await, 401);
    }
    let right = format!("Bearer {CONTROL}");
    let (status, headers, _) =
        site.ask(request("GET", "/api/params", &[("authorization", &right)], "")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(headers.contains_key(header::RETRY_AFTER));
    assert_eq!(site.status("GET", "/healthz", &[]).await, 200);
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_served() {
    let site = Site::open();
    for (host, expected) in [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("stage.local:8080", 200),
        // A name that a stranger points at this machine (DNS rebinding).
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ] {
        assert_eq!(site.status("GET", "/api/params", &[("host", host)]).await, expected, "{host}");
    }
    let foreign = [("host", "localhost"), ("origin", "http://evil.example")];
    assert_eq!(site.status("GET", "/api/params", &foreign).await, 403);
    assert_eq!(site.status("GET", "/api/params", &[("host", "localhost"), ("origin", "null")]).await, 403);
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let site = Site::open();
    for path in [
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e%2fmod.rs",
        "/assets//etc/passwd",
        "/assets/%00",
        "/api/presets/..%2f..%2fx",
        "/api/presets/%2e%2e",
        "/whep/..",
        "/api/params?stream=../x",
    ] {
        let status = site.status("GET", path, &[("host", "localhost")]).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let (status, _) = site.json("PUT", "/api/presets/..%2fevil", &Value::Null).await;
    assert_eq!(status, 422);
    assert_eq!(std::fs::read_dir(site.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn offers_are_refused_with_a_reason() {
    let site = Site::open();
    let long = "a=x\r\n".repeat(20_000);
    let audio = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    for (path, kind, body, status, code) in [
        ("/whep", "text/plain", "v=0", 415, "content_type"),
        ("/whep", "application/sdp", "", 400, "sdp"),
        ("/whep", "application/sdp", "v=0", 400, "sdp"),
        ("/whep", "application/sdp", audio, 400, "sdp"),
        ("/whep", "application/sdp", &long, 413, "too_long"),
        ("/whep/none", "application/sdp", "v=0", 404, "no_stream"),
        ("/whip/Bad%20Name", "application/sdp", "v=0", 404, "no_stream"),
        ("/whip/other", "application/sdp", "v=0", 400, "sdp"),
    ] {
        let headers = [("host", "localhost"), ("content-type", kind)];
        let (got, _, answer) = site.ask(request("POST", path, &headers, body)).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((got.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{path}: {answer}");
    }
    // A bad offer leaves no stream behind.
    assert!(hub().stream("other").is_none());
    let (status, headers, _) = site.ask(request("OPTIONS", "/whep", &[("host", "localhost")], "")).await;
    assert_eq!(
        (status, &headers["accept-post"]),
        (StatusCode::NO_CONTENT, &"application/sdp".parse().unwrap())
    );
}

#[tokio::test]
async fn presets_are_kept() {
    let site = Site::open();
    let nothing = Value::Null;
    assert_eq!(site.json("PATCH", "/api/params", &json!({"seed": 7, "blend": 0.5})).await.0, 200);
    assert_eq!(site.json("PUT", "/api/presets/two%20words", &nothing).await.0, 200);
    assert_eq!(site.json("PATCH", "/api/params", &json!({"seed": 8})).await.0, 200);
    let (status, values) = site.json("POST", "/api/presets/two%20words/load", &nothing).await;
    assert_eq!((status, &values["seed"]), (200, &json!(7)));
    assert_eq!(site.json("GET", "/api/presets", &nothing).await.1, json!(["two words"]));
    std::fs::write(site.folder.path().join("odd.toml"), "look = \"charcoal\"\n").unwrap();
    let (status, values) = site.json("POST", "/api/presets/odd/load", &nothing).await;
    assert_eq!((status, &values["prompt"]), (200, &json!("a charcoal drawing")));
    std::fs::write(site.folder.path().join("odd.toml"), "look = \"no such look\"\n").unwrap();
    assert_eq!(site.json("POST", "/api/presets/odd/load", &nothing).await.0, 422);
    assert_eq!(site.json("DELETE", "/api/presets/odd", &nothing).await.0, 204);
    assert_eq!(site.json("DELETE", "/api/presets/odd", &nothing).await.0, 404);
}

#[tokio::test]
async fn pictures_and_figures_are_told() {
    let site = Site::open();
    let local = [("host", "localhost")];
    let mut jpeg = Vec::new();
    for _ in 0..100 {
        let (status, _, body) = site.ask(request("GET", "/api/snapshot.jpg", &local, "")).await;
        if status == StatusCode::OK {
            jpeg = body;
            break;
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let picture = image::load_from_memory(&jpeg).unwrap();
    assert_eq!((picture.width(), picture.height()), (256, 256));
    assert_eq!(site.status("GET", "/readyz", &local).await, 200);
    let (_, headers, body) = site.ask(request("GET", "/metrics", &local, "")).await;
    let text = String::from_utf8(body).unwrap();
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "dreamglass_frames_total{stream=\"main\",fate=\"shown\"} ",
        "dreamglass_latency_seconds_bucket{le=",
        "dreamglass_http_requests_total{route=\"/api/snapshot.jpg\",method=\"GET\",status=\"200\"} 1",
        "dreamglass_sessions{role=\"viewer\"} 0",
        "dreamglass_device_bytes ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut names = families.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), families.len(), "a family comes twice: {families:?}");
}

/// A server on a port of its own.
async fn listen(site: &Site) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, app) = (router(&site.app), Arc::clone(&site.app));
    tokio::spawn(async move { serve(listener, router, app.ended()).await });
    address
}

async fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET /api/socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A text frame as a client sends it, with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | 126];
    bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// Everything until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.expect("stays open");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn sockets_refuse_nonsense_and_close_on_floods() {
    let site = Site::open();
    let address = listen(&site).await;
    let mut stream = upgrade(address).await;
    let messages = [
        "{",
        "{\"type\":\"set\",\"id\":1,\"params\":{\"strength\":7}}",
        "{\"type\":\"load_preset\",\"id\":2,\"name\":\"../x\"}",
    ];
    for message in messages {
        stream.write_all(&frame(message)).await.unwrap();
    }
    for n in 0..200 {
        let message = format!("{{\"type\":\"clock\",\"sent_ms\":{n}}}");
        if stream.write_all(&frame(&message)).await.is_err() {
            break;
        }
    }
    let said = rest(stream).await;
    for part in [
        "\"type\":\"hello\"",
        "\"code\":\"message\"",
        "\"code\":\"out_of_range\"",
        "\"code\":\"name\"",
        "60 messages",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // One that says it sends a gigabyte.
    let mut stream = upgrade(address).await;
    let mut huge = vec![0x81, 0x80 | 127];
    huge.extend((1_u64 << 30).to_be_bytes());
    huge.extend([0; 4]);
    stream.write_all(&huge).await.unwrap();
    rest(stream).await;
    site.app.end();
}

#[tokio::test]
async fn the_end_is_told() {
    let site = Site::open();
    let address = listen(&site).await;
    let stream = upgrade(address).await;
    let app = Arc::clone(&site.app);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        app.end();
    });
    let said = rest(stream).await;
    assert!(said.contains("\"type\":\"bye\""), "{said}");
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
}

#[tokio::test]
async fn open_sound_control_sets_parameters() {
    let site = Site::open();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(osc::listen(Arc::clone(&site.app), socket));
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let message =
        rosc::OscMessage { addr: "/dreamglass/seed_blend".into(), args: vec![rosc::OscType::Float(0.3)] };
    let packet = rosc::encoder::encode(&rosc::OscPacket::Message(message)).unwrap();
    for bytes in [&b"nonsense"[..], &[0; 1400], &[255; 64], &packet] {
        sender.send_to(bytes, address).await.unwrap();
    }
    let main = hub().stream(crate::hub::MAIN).unwrap();
    let is_set =
        || params::values(&main.params())["seed_blend"] == dreamglass_engine::params::Value::Number(0.3);
    for _ in 0..100 {
        if is_set() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_set());
    site.app.end();
    timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
}
