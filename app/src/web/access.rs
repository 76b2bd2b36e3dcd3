//! Who may do what: tokens, and what browsers send for pages of strangers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::{ApiError, App, pages};

/// The cookie that holds a token.
const COOKIE: &str = "dreamglass";

/// Wrong tokens from an address before it has to wait.
const MAX_FAILURES: u32 = 20;

/// How long it has to wait, and how long failures are remembered.
const FORGETTING: Duration = Duration::from_secs(60);

/// Addresses that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Ask whether the server lives.
    Nothing,
    /// Watch.
    View,
    /// Everything.
    Control,
}

/// What lets in.
#[derive(Clone)]
pub struct Tokens {
    /// Lets do everything.
    pub control: String,
    /// Lets watch.
    pub view: String,
}

/// The rules.
pub struct Access {
    /// None: whoever comes from this machine may do everything.
    tokens: Option<Tokens>,
    /// What the server is called in `Host`, where there are no tokens.
    hosts: Vec<String>,
    /// Origins of other pages that may use the API.
    origins: Vec<String>,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Access {
    /// Rules for a server that is called `hosts` (beside `localhost` and the loopback addresses) and
    /// lets pages of `origins` use it.
    pub fn new(tokens: Option<Tokens>, hosts: Vec<String>, origins: Vec<String>) -> Self {
        Self { tokens, hosts, origins, failures: Mutex::default() }
    }
    /// The token for viewers.
    pub fn view_token(&self) -> Option<&str> {
        self.tokens.as_ref().map(|tokens| tokens.view.as_str())
    }
    /// Whether pages of `origin` may use the API.
    fn is_known(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }
    /// What whoever sent this may do.
    fn right(&self, parts: &Parts) -> Result<Right, ApiError> {
        let headers = &parts.headers;
        let host = host(parts);
        let origin = text(headers, header::ORIGIN);
        let Some(tokens) = &self.tokens else {
            if !host.as_deref().is_some_and(|host| self.is_called(host)) {
                let message = format!(
                    "this server is not called {:.100}: use localhost, or start it with --allow-host",
                    host.unwrap_or_default()
                );
                return Err(ApiError::new(StatusCode::FORBIDDEN, "host", message));
            }
            self.check_origin(origin, host.as_deref())?;
            return Ok(Right::Control);
        };
        let bearer = text(headers, header::AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer "));
        if let Some(token) = bearer {
            return Ok(tokens.right(token.trim()));
        }
        // What a browser adds by itself could be sent for a page of somebody else.
        self.check_origin(origin, host.as_deref())?;
        let query = pages::token_of(&parts.uri);
        let best = [query, cookie(headers)].into_iter().flatten().map(|token| tokens.right(&token)).max();
        Ok(best.unwrap_or(Right::Nothing))
    }
    fn is_called(&self, host: &str) -> bool {
        let name = host.parse::<Authority>().map(|a| a.host().to_ascii_lowercase()).unwrap_or_default();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_loopback || self.hosts.iter().any(|known| known == name)
    }
    fn check_origin(&self, origin: Option<&str>, host: Option<&str>) -> Result<(), ApiError> {
        let Some(origin) = origin else { return Ok(()) };
        let same = origin.split_once("://").map(|(_, authority)| authority);
        if same.is_some() && same == host || self.is_known(origin) {
            return Ok(());
        }
        let message = format!("pages of {origin:.100} may not use this server (--allow-origin lets them)");
        Err(ApiError::new(StatusCode::FORBIDDEN, "origin", message))
    }
    /// Seconds that an address has to wait.
    fn waits(&self, address: IpAddr) -> Option<u32> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = failures.get(&address)?;
        let left = FORGETTING.checked_sub(since.elapsed())?;
        (*count >= MAX_FAILURES).then(|| left.as_secs() as u32 + 1)
    }
    fn failed(&self, address: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_REMEMBERED {
            failures.retain(|_, (_, since)| since.elapsed() < FORGETTING);
        }
        // With so many at it, who is new is not told apart any more.
        if failures.len() < MAX_REMEMBERED || failures.contains_key(&address) {
            let entry = failures.entry(address).or_insert((0, Instant::now()));
            let is_old = entry.1.elapsed() > FORGETTING;
            *entry = if is_old { (1, Instant::now()) } else { (entry.0 + 1, entry.1) };
        }
    }
}

impl Tokens {
    fn right(&self, token: &str) -> Right {
        // Both are compared, in constant time for tokens of one length.
        let is = |known: &str| bool::from(known.as_bytes().ct_eq(token.as_bytes()));
        match (is(&self.control), is(&self.view)) {
            (true, _) => Right::Control,
            (_, true) => Right::View,
            _ => Right::Nothing,
        }
    }
}

/// What a request needs.
fn needed(method: &Method, path: &str) -> Right {
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match path {
        "/healthz" | "/readyz" => Right::Nothing,
        "/" => Right::Control,
        path if path == "/whep" || path.starts_with("/whep/") => Right::View,
        // A peer's resource is named by 128 random bits, which only that peer knows.
        path if path.starts_with("/peers/") => Right::View,
        path if path.starts_with("/whip/") => Right::Control,
        path if path.starts_with("/api/presets") || path == "/api/viewer-link" => Right::Control,
        _ if is_read => Right::View,
        _ => Right::Control,
    }
}

/// Lets in who may, with the right as an extension of the request.
pub async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let access = &app.access;
    let origin = text(&parts.headers, header::ORIGIN).filter(|o| access.is_known(o)).map(String::from);
    let response = if parts.method == Method::OPTIONS && origin.is_some() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match admit(&app, &mut parts) {
            Ok(Some(redirect)) => redirect,
            Ok(None) => next.run(Request::from_parts(parts, body)).await,
            Err(error) if wants_page(&parts) => pages::ask_for_token(error),
            Err(error) => error.into_response(),
        }
    };
    match origin {
        Some(origin) => allow(response, &origin),
        None => response,
    }
}

fn admit(app: &App, parts: &mut Parts) -> Result<Option<Response>, ApiError> {
    let access = &app.access;
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(a)| a.ip());
    let needed = needed(&parts.method, parts.uri.path());
    if let Some(seconds) = address.and_then(|a| access.waits(a)).filter(|_| needed > Right::Nothing) {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "too many wrong tokens");
        return Err(error.retry_after(seconds));
    }
    if needed == Right::Nothing {
        return Ok(None);
    }
    let right = access.right(parts)?;
    if right < needed {
        let is_viewer = right == Right::View;
        if !is_viewer && let Some(address) = address.filter(|_| has_token(parts)) {
            access.failed(address);
        }
        return Err(match is_viewer {
            true => ApiError::new(StatusCode::FORBIDDEN, "view_only", "this token lets watch only"),
            false => ApiError::new(
                StatusCode::UNAUTHORIZED,
                "token",
                "a token is needed: Authorization: Bearer ...",
            ),
        });
    }
    parts.extensions.insert(right);
    let is_offer = parts.method == Method::POST && parts.uri.path().starts_with("/wh");
    if let Some(address) = address.filter(|_| is_offer) {
        app.offers.take(address, Instant::now()).map_err(|seconds| {
            let message = "too many offers from this address";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message).retry_after(seconds)
        })?;
    }
    let is_page = parts.method == Method::GET && matches!(parts.uri.path(), "/" | "/view");
    match pages::token_of(&parts.uri).filter(|_| is_page && access.tokens.is_some()) {
        Some(token) => Ok(Some(keep(&parts.uri, &token))),
        None => Ok(None),
    }
}

fn has_token(parts: &Parts) -> bool {
    parts.headers.contains_key(header::AUTHORIZATION)
        || cookie(&parts.headers).is_some()
        || pages::token_of(&parts.uri).is_some()
}

fn wants_page(parts: &Parts) -> bool {
    parts.method == Method::GET
        && matches!(parts.uri.path(), "/" | "/view")
        && text(&parts.headers, header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
}

/// Puts the token of a link into a cookie and takes it out of the address line.
fn keep(uri: &Uri, token: &str) -> Response {
    let path = pages::without_token(uri);
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000");
    let (Ok(location), Ok(cookie)) = (HeaderValue::from_str(&path), HeaderValue::from_str(&cookie)) else {
        return ApiError::new(StatusCode::BAD_REQUEST, "token", "a token has no such characters")
            .into_response();
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response()
}

/// Lets a page of `origin` read the answer.
fn allow(mut response: Response, origin: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(origin) = HeaderValue::from_str(origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let fixed = [
        (header::VARY, "Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Location, Link, ETag, Retry-After"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn host(parts: &Parts) -> Option<String> {
    let named = text(&parts.headers, header::HOST).map(String::from);
    named.or_else(|| parts.uri.authority().map(ToString::to_string))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_string())
}
