//! HTTP with the hub: redirects, the token, what is tried again and what is not.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use ureq::http::{HeaderMap, Method, Request, Uri, header};

use super::environment::Environment;
use super::pull::Reporter;
use crate::failure::bad_input;

/// Failures in a row that are borne; waits double from [`FIRST_WAIT`] on.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Redirections that are followed; the hub needs one or two.
const REDIRECTIONS: usize = 10;
/// How often Ctrl-C is looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// Bytes of a body that are read at once, and such pieces that wait.
const PIECE: usize = 1 << 16;
const WAITING: usize = 16;
/// Largest answer that is read whole: lists of files.
const MOST_BYTES: usize = 64 << 20;

/// Ctrl-C, as a flag.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// Ended by Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ended by Ctrl-C")
    }
}

impl std::error::Error for Interrupted {}

impl Stop {
    /// Raised when `flag` is.
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// Waits for `time`.
    ///
    /// # Errors
    /// [`Interrupted`] when it is raised meanwhile.
    pub fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if self.is_raised() {
                return Err(Interrupted);
            }
            thread::sleep(GLANCE.min(time));
        }
        Ok(())
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub enum Trouble {
    /// It may work the next time, after a wait where the server names one.
    Passing(String, Option<Duration>),
    /// It will not.
    Lasting(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Lasting(error.into())
    }
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Patience {
    failed: u32,
}

impl Patience {
    /// Something came: the count starts anew.
    pub fn restore(&mut self) {
        self.failed = 0;
    }
    /// Waits after `trouble` with `what`.
    ///
    /// # Errors
    /// `trouble`, where it lasts or comes too often; [`Interrupted`].
    pub fn bear(&mut self, what: &str, trouble: Trouble, client: &Client<'_>) -> Result<()> {
        let (message, asked) = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing(message, asked) => (message, asked),
        };
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return Err(anyhow!("{what}: {message}, {ATTEMPTS} times in a row"));
        }
        let wait = asked.unwrap_or_else(|| FIRST_WAIT * 2_u32.pow(self.failed - 1) + jitter());
        if wait > LONGEST_WAIT {
            return Err(anyhow!(
                "{what}: {message}, and asks to wait for {} s: try again then",
                wait.as_secs()
            ));
        }
        client.reporter.warn(&format!("{what}: {message}; trying again in {:.1} s", wait.as_secs_f64()));
        Ok(client.stop.sleep(wait)?)
    }
}

/// Up to a quarter of the first wait, so that programs that failed together do not come back together.
fn jitter() -> Duration {
    let chance = getrandom::u32().unwrap_or_default() % 125;
    Duration::from_millis(chance.into())
}

/// The hub.
pub struct Client<'a> {
    agent: ureq::Agent,
    environment: &'a Environment,
    pub stop: Stop,
    pub reporter: &'a dyn Reporter,
}

/// What a server said, and what follows.
pub struct Answer<'a> {
    /// Its status: 200, 206 or 416, all else is trouble.
    pub status: u16,
    /// Headers, those of redirections first.
    pub headers: HeaderMap,
    events: Receiver<Event>,
    client: &'a Client<'a>,
}

/// What the thread of an exchange tells.
enum Event {
    Head(u16, HeaderMap),
    Bytes(Vec<u8>),
    Failed(Trouble),
}

impl<'a> Client<'a> {
    /// A client for the hub of `environment`.
    pub fn new(environment: &'a Environment, stop: Stop, reporter: &'a dyn Reporter) -> Self {
        let patience = Some(environment.patience);
        let config = ureq::Agent::config_builder()
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            // The token must not go where a redirection points, which is followed here.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("dreamglass/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), environment, stop, reporter }
    }

    /// `path` of the hub.
    ///
    /// # Errors
    /// Where that is no URL.
    pub fn url(&self, path: &str) -> Result<Uri> {
        let base = self.environment.endpoint.to_string();
        let url = format!("{}/{path}", base.trim_end_matches('/'));
        url.parse().with_context(|| format!("{url}: expected a URL"))
    }

    /// All of what is at `url`, with as many attempts as are borne.
    ///
    /// # Errors
    /// Where there is nothing, or the trouble does not pass.
    pub fn read(&self, what: &str, url: &Uri) -> Result<Vec<u8>> {
        let mut patience = Patience::default();
        loop {
            match self.read_once(url) {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => patience.bear(what, trouble, self)?,
            }
        }
    }

    fn read_once(&self, url: &Uri) -> Result<Vec<u8>, Trouble> {
        let mut answer = self.ask(&Method::GET, url, 0)?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.piece()? {
            if bytes.len() + piece.len() > MOST_BYTES {
                return Err(Trouble::Lasting(anyhow!("{url}: the answer has more than {MOST_BYTES} bytes")));
            }
            bytes.extend(piece);
        }
        match answer.length() {
            Some(length) if length != bytes.len() as u64 => {
                let message = format!("the answer broke off after {} of {length} bytes", bytes.len());
                Err(Trouble::Passing(message, None))
            }
            _ => Ok(bytes),
        }
    }

    /// What is at `url` from byte `from` on, redirections followed.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn ask(&'a self, method: &Method, url: &Uri, from: u64) -> Result<Answer<'a>, Trouble> {
        let mut url = url.clone();
        let mut gathered = HeaderMap::new();
        for _ in 0..=REDIRECTIONS {
            let mut answer = self.exchange(method, &url, from)?;
            let location = answer.headers.get(header::LOCATION).cloned();
            let is_redirection = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            gathered.extend(answer.headers.drain().filter_map(|(name, value)| Some((name?, value))));
            answer.headers.clone_from(&gathered);
            let Some(location) = location.filter(|_| is_redirection) else {
                return self.judge(&url, answer);
            };
            // What the hub says about a file stays, where and how long this answer was does not.
            for name in [header::LOCATION, header::CONTENT_LENGTH, header::CONTENT_RANGE] {
                gathered.remove(name);
            }
            let text = location.to_str().unwrap_or_default();
            url = redirected(&url, text).map_err(|why| anyhow!("{url}: redirects to `{text}`: {why}"))?;
        }
        Err(Trouble::Lasting(anyhow!("{url}: more than {REDIRECTIONS} redirections")))
    }

    /// One exchange, on a thread of its own: a silent server holds nobody up who wants to leave.
    fn exchange(&'a self, method: &Method, url: &Uri, from: u64) -> Result<Answer<'a>, Trouble> {
        let mut request = Request::builder().method(method).uri(url);
        // Lengths and ranges are those of the file, not of a packed form.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.environment.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        let request = request.body(())?;
        let (told, events) = sync_channel(WAITING);
        let agent = self.agent.clone();
        thread::spawn(move || talk(&agent, request, &told));
        let mut answer = Answer { status: 0, headers: HeaderMap::new(), events, client: self };
        match answer.event()? {
            Some(Event::Head(status, headers)) => (answer.status, answer.headers) = (status, headers),
            Some(Event::Failed(trouble)) => return Err(trouble),
            _ => return Err(Trouble::Passing("no answer".into(), None)),
        }
        Ok(answer)
    }

    /// Whether `url` is on the hub itself.
    fn is_hub(&self, url: &Uri) -> bool {
        let hub = &self.environment.endpoint;
        (url.scheme(), url.authority()) == (hub.scheme(), hub.authority())
    }

    /// What a status means.
    fn judge(&self, url: &Uri, answer: Answer<'a>) -> Result<Answer<'a>, Trouble> {
        let said = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let status = answer.status;
        match status {
            200 | 206 | 416 => Ok(answer),
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let wait = said("retry-after").and_then(|text| text.trim().parse().ok());
                let wait = wait.map(Duration::from_secs);
                Err(Trouble::Passing(format!("the server said {status}{}", meaning(status)), wait))
            }
            // Signatures of links expire, and a new link is asked for each time.
            401 | 403 | 404 if !self.is_hub(url) => {
                let host = url.authority().map(ToString::to_string).unwrap_or_default();
                Err(Trouble::Passing(format!("{host} said {status}{}", meaning(status)), None))
            }
            401 | 403 | 404 => {
                let code = said("x-error-code").map(printable).unwrap_or_default();
                let message = said("x-error-message").map(printable).unwrap_or_default();
                Err(Refusal { status, code, message, has_token: self.environment.token.is_some() }.into())
            }
            _ => {
                let message = said("x-error-message").map(printable).unwrap_or_default();
                Err(Trouble::Lasting(anyhow!("{}: the server said {status} {message}", bare(url))))
            }
        }
    }
}

/// The hub does not hand something out.
#[derive(Debug)]
pub struct Refusal {
    /// 401, 403 or 404.
    pub status: u16,
    /// The hub's word for the reason.
    pub code: String,
    message: String,
    /// Whether it was asked with a token.
    pub has_token: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, message, .. } = self;
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        write!(f, "the hub said {status}{}{message}", meaning(*status))
    }
}

impl std::error::Error for Refusal {}

impl Answer<'_> {
    /// The next bytes of the body; none at its end.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Trouble> {
        match self.event()? {
            Some(Event::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Event::Failed(trouble)) => Err(trouble),
            Some(Event::Head(..)) | None => Ok(None),
        }
    }
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
    /// Bytes of the body, where the server says.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
    /// First byte and size of the whole, of a part.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (range, size) = self.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        Some((first.trim().parse().ok()?, size.trim().parse().ok()?))
    }
    /// Tells of bytes that were kept.
    pub fn advance(&self, bytes: u64) {
        self.client.reporter.advance(bytes);
    }
    fn event(&mut self) -> Result<Option<Event>, Trouble> {
        // The thread has its own times; this one is for what they do not see, such as names that resolve for ever.
        let (begun, longest) = (Instant::now(), 3 * self.client.environment.patience);
        loop {
            if self.client.stop.is_raised() {
                return Err(Trouble::Lasting(Interrupted.into()));
            }
            match self.events.recv_timeout(GLANCE) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() > longest => {
                    return Err(Trouble::Passing(format!("nothing came for {} s", longest.as_secs()), None));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Sends a request and tells what comes, until nobody listens.
fn talk(agent: &ureq::Agent, request: Request<()>, told: &SyncSender<Event>) {
    let response = match agent.run(request) {
        Ok(response) => response,
        Err(error) => {
            let _ = told.send(Event::Failed(trouble(error)));
            return;
        }
    };
    let (head, body) = response.into_parts();
    if told.send(Event::Head(head.status.as_u16(), head.headers)).is_err() {
        return;
    }
    let mut body = body.into_reader();
    loop {
        let mut piece = vec![0; PIECE];
        let event = match body.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Event::Bytes(piece)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Failed(Trouble::Passing(format!("the connection broke: {error}"), None)),
        };
        let is_end = matches!(event, Event::Failed(_));
        if told.send(event).is_err() || is_end {
            return;
        }
    }
}

/// Whether an error of the transport may pass.
fn trouble(error: ureq::Error) -> Trouble {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => {
            Trouble::Passing(format!("the server cannot be reached: {error}"), None)
        }
        other => Trouble::Lasting(anyhow!(other).context("the server cannot be reached")),
    }
}

/// `location` as seen from `base`.
fn redirected(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    let there: Uri = location.parse().map_err(|_| "expected a URL")?;
    let scheme = there.scheme_str().or(base.scheme_str()).unwrap_or("https");
    let authority = there.authority().or(base.authority()).ok_or("expected a host")?;
    let path = there.path_and_query().map_or("/", |path| path.as_str());
    match (base.scheme_str(), scheme) {
        (_, "https") | (Some("http"), "http") => {}
        (_, "http") => return Err("expected https, as it was before"),
        _ => return Err("expected http or https"),
    }
    if !path.starts_with('/') {
        return Err("expected a path from the root");
    }
    let url = format!("{scheme}://{authority}{path}");
    url.parse().map_err(|_| "expected a URL")
}

/// A URL without its query, which holds signatures.
fn bare(url: &Uri) -> String {
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    format!("{authority}{}", url.path())
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 => " (who asks?)",
        403 => " (not for this token)",
        404 => " (not found)",
        408 => " (too slow)",
        429 => " (too many requests)",
        500..=599 => " (trouble of its own)",
        _ => "",
    }
}

/// What a terminal can be shown of a server's text.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The refusal in `error`, put in terms of the repository `name`.
pub fn explain(
    error: anyhow::Error,
    repository: &str,
    revision: &str,
    file: Option<&str>,
    hub: &Uri,
) -> anyhow::Error {
    let Some(refusal) = error.downcast_ref::<Refusal>() else { return error };
    let page = format!("{}/{repository}", hub.to_string().trim_end_matches('/'));
    let give = "give one in HF_TOKEN or with `huggingface-cli login`";
    let is_gated = refusal.code == "GatedRepo" || refusal.status == 403;
    let text = match (refusal.code.as_str(), refusal.status) {
        ("RevisionNotFound", _) => {
            format!("{repository} has no revision `{revision}`: {page}/tree/main lists them")
        }
        ("EntryNotFound", _) => {
            format!("{repository}@{revision} has no file `{}`", file.unwrap_or("(unknown)"))
        }
        (_, 401 | 403) if is_gated && refusal.has_token => format!(
            "{repository} is gated or private, and this token has no access: accept its terms at {page} with the token's \
             account, and check that the token may read gated repositories ({refusal})"
        ),
        (_, 401 | 403) if is_gated => format!(
            "{repository} is gated: accept its terms at {page}, and {give} (tokens: {hub}settings/tokens) ({refusal})"
        ),
        (_, 401) if refusal.has_token => {
            format!(
                "there is no repository {repository}, or the token is wrong or may not read it ({refusal})"
            )
        }
        (_, 401) => format!(
            "there is no repository {repository}, or it is private: for a private one a token is needed, {give} ({refusal})"
        ),
        _ if file.is_some() => {
            format!("{repository}@{revision} has no file `{}` ({refusal})", file.unwrap_or_default())
        }
        _ => format!("there is no repository {repository}, or it has no revision `{revision}` ({refusal})"),
    };
    bad_input(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn redirections_stay_on_the_web_and_do_not_lose_their_lock() {
        let base: Uri = "https://hub.example/a/b".parse().unwrap();
        let to = |location| redirected(&base, location).map(|url| url.to_string());
        assert_eq!(to("/c?d=1").unwrap(), "https://hub.example/c?d=1");
        assert_eq!(to("https://cdn.example/x").unwrap(), "https://cdn.example/x");
        for location in ["http://cdn.example/x", "file:///etc/passwd", "ftp://a/b", "", "a b"] {
            assert!(to(location).is_err(), "{location}: {:?}", to(location));
        }
    }
}
