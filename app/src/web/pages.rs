//! The page and what it is made of, out of the program.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Asked, StreamName};
use super::error::ErrorBody;
use super::{ApiError, App};

/// The files of `static/` as they were when the program was built.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/static.rs"));

/// What pages may load: only what comes from here.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; \
                      connect-src 'self'; style-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'";

fn file(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some(bytes) = file(name) else {
        return ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such file").into_response();
    };
    // The same program has the same files.
    let tag = format!("\"{}-{:x}\"", env!("CARGO_PKG_VERSION"), fingerprint(bytes));
    let common = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".into())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, kind(name))], bytes).into_response()
}

/// FNV-1a: tells versions of a file apart.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The page.
#[utoipa::path(get, path = "/", responses(
    (status = 200, description = "The page", content_type = "text/html", body = String),
    (status = 401, description = "A token is needed", body = ErrorBody),
))]
pub async fn page(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

/// The picture alone, for audiences and OBS.
#[utoipa::path(get, path = "/view", params(StreamName), responses(
    (status = 200, description = "A page with the picture alone", content_type = "text/html", body = String),
    (status = 401, description = "A token is needed", body = ErrorBody),
))]
pub async fn view(headers: HeaderMap) -> Response {
    answer("view.html", &headers)
}

/// What the pages are made of.
#[utoipa::path(get, path = "/assets/{file}", params(("file" = String, Path, description = "Name of the file", example = "app.js")), responses(
    (status = 200, description = "The file", content(
        (String = "text/html"), (String = "text/css"), (String = "text/javascript"), (String = "image/svg+xml"))),
    (status = 304, description = "It is what you have"),
    (status = 401, description = "A token is needed", body = ErrorBody),
    (status = 404, description = "There is no such file", body = ErrorBody),
))]
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

/// A link for viewers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewerLink {
    /// Path and query, with the token for viewers where there is one.
    pub path: String,
}

/// The link that lets others watch and no more.
#[utoipa::path(get, path = "/api/viewer-link", params(StreamName), responses(
    (status = 200, description = "The link", body = ViewerLink),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
))]
pub async fn viewer_link(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Json<ViewerLink>, ApiError> {
    app.stream(&stream)?;
    let token = app.access.view_token().map(|token| format!("&token={token}"));
    Ok(Json(ViewerLink { path: format!("/view?stream={stream}{}", token.unwrap_or_default()) }))
}

/// Headers that keep browsers from more than is meant.
pub async fn protect(request: Request, next: Next) -> Response {
    // Audiences' pages and broadcasters put the view into frames of theirs.
    let may_be_framed = request.uri().path() == "/view";
    let mut response = next.run(request).await;
    let frames = if may_be_framed { "*" } else { "'none'" };
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&format!("{POLICY}; frame-ancestors {frames}")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A form for the token, in the place of a page.
pub fn ask_for_token(error: ApiError) -> Response {
    let message = escape(&error.problem().message);
    let mut response = error.into_response();
    let page = format!(
        "<!doctype html><html lang=\"en\"><title>Dreamglass</title><meta name=\"viewport\" \
         content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\"><p>{message}</p><form method=\"get\">\
         <label>Token <input name=\"token\" type=\"password\" autocomplete=\"off\" autofocus></label> \
         <button>Enter</button></form></html>"
    );
    let (mut parts, _) = std::mem::take(&mut response).into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    (parts.status, parts.headers, Html(page)).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The token in a query.
pub fn token_of(uri: &Uri) -> Option<String> {
    pairs(uri).find(|(name, _)| *name == "token").map(|(_, value)| value.to_string())
}

/// Path and query without the token.
pub fn without_token(uri: &Uri) -> String {
    let rest: Vec<String> = pairs(uri)
        .filter(|(name, _)| *name != "token")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // Not `//host`, which would be another server.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    if rest.is_empty() { path } else { format!("{path}?{}", rest.join("&")) }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='))
}
