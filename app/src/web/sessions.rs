//! WHEP and WHIP: viewers and publishers over WebRTC (draft-ietf-wish-whep, RFC 9725).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::body::Text;
use super::error::ErrorBody;
use super::{ApiError, App};
use crate::hub::MAIN;
use crate::peers::Answered;
use crate::rtc::IceServer;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// An ICE server as RFC 9725 4.6 puts it in a Link header.
pub fn links(server: &IceServer) -> Vec<String> {
    let quoted = |text: &str| text.replace(['\\', '"', '\r', '\n'], "");
    let login = match server.username.is_empty() {
        true => String::new(),
        false => format!(
            "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
            quoted(&server.username),
            quoted(&server.credential)
        ),
    };
    server
        .urls
        .iter()
        .map(|url| format!("<{}>; rel=\"ice-server\"{login}", url.replace(['<', '>'], "")))
        .collect()
}

fn add_links(headers: &mut HeaderMap, app: &App) {
    for link in app.links.iter().filter_map(|link| HeaderValue::from_str(link).ok()) {
        headers.append(header::LINK, link);
    }
}

fn created(app: &App, answered: Answered) -> Response {
    let Answered { id, sdp } = answered;
    // RFC 9725 4.3: names the ICE session that a PATCH belongs to.
    let ufrag = sdp.lines().find_map(|line| line.trim().strip_prefix("a=ice-ufrag:")).unwrap_or_default();
    let fixed = [
        (header::LOCATION, format!("/peers/{id}")),
        (header::CONTENT_TYPE, SDP.into()),
        (header::ETAG, format!("\"{}\"", ufrag.replace('"', ""))),
        (header::HeaderName::from_static("accept-patch"), FRAGMENT.into()),
    ];
    let mut response = (StatusCode::CREATED, fixed, sdp).into_response();
    add_links(response.headers_mut(), app);
    response
}

/// What every offer may be answered with; each path adds what is its own.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "the variants are the document's: handlers answer with `Response`")]
pub enum Offered {
    /// The answer; Location names the session
    #[response(status = 201, content_type = "application/sdp")]
    Answer(String),
    /// The offer cannot be read
    #[response(status = 400)]
    Unreadable(ErrorBody),
    /// There is no H.264 in the offer
    #[response(status = 406)]
    NoCodec(ErrorBody),
    /// The offer is too long
    #[response(status = 413)]
    TooLong(ErrorBody),
    /// The offer is no application/sdp
    #[response(status = 415)]
    OtherType(ErrorBody),
    /// Too many offers from this address
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// The connection cannot be made
    #[response(status = 500)]
    Failed(ErrorBody),
}

/// Watches the main stream.
#[utoipa::path(post, path = "/whep", request_body(content = String, content_type = "application/sdp"), responses(
    Offered,
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 503, description = "There is no room for another viewer", body = ErrorBody),
))]
pub async fn whep_main(State(app): State<Arc<App>>, text: Text) -> Result<Response, ApiError> {
    Ok(created(&app, app.peers.watch(MAIN, text.of(SDP)?).await?))
}

/// Watches a stream.
#[utoipa::path(post, path = "/whep/{stream}", params(("stream" = String, Path, description = "Name of the stream", example = "main")),
    request_body(content = String, content_type = "application/sdp"), responses(
    Offered,
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 503, description = "There is no room for another viewer", body = ErrorBody),
))]
pub async fn whep(
    State(app): State<Arc<App>>,
    Path(stream): Path<String>,
    text: Text,
) -> Result<Response, ApiError> {
    Ok(created(&app, app.peers.watch(&stream, text.of(SDP)?).await?))
}

/// Publishes to a stream, which is made where there is none.
#[utoipa::path(post, path = "/whip/{stream}", params(("stream" = String, Path, description = "Name of the stream", example = "main")),
    request_body(content = String, content_type = "application/sdp"), responses(
    Offered,
    (status = 404, description = "No stream has such a name", body = ErrorBody),
    (status = 409, description = "Somebody publishes to it already", body = ErrorBody),
    (status = 503, description = "There are as many streams as this server runs", body = ErrorBody),
))]
pub async fn whip(
    State(app): State<Arc<App>>,
    Path(stream): Path<String>,
    text: Text,
) -> Result<Response, ApiError> {
    Ok(created(&app, app.peers.publish(&stream, text.of(SDP)?).await?))
}

/// More candidates of a peer, or new credentials (an ICE restart).
#[utoipa::path(patch, path = "/peers/{id}", params(("id" = String, Path, description = "The peer, from Location")),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"), responses(
    (status = 200, description = "ICE restarts; our credentials and candidates", content_type = "application/trickle-ice-sdpfrag", body = String),
    (status = 204, description = "The candidates are taken"),
    (status = 400, description = "The fragment cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such peer any more", body = ErrorBody),
    (status = 413, description = "The fragment is too long", body = ErrorBody),
    (status = 415, description = "It is no application/trickle-ice-sdpfrag", body = ErrorBody),
))]
pub async fn patch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    text: Text,
) -> Result<Response, ApiError> {
    Ok(match app.peers.patch(&id, text.of(FRAGMENT)?).await? {
        Some(fragment) => ([(header::CONTENT_TYPE, FRAGMENT)], fragment).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Ends a peer.
#[utoipa::path(delete, path = "/peers/{id}", params(("id" = String, Path, description = "The peer, from Location")), responses(
    (status = 200, description = "It is gone"),
    (status = 404, description = "There is no such peer any more", body = ErrorBody),
))]
pub async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.peers.end(&id)?;
    Ok(StatusCode::OK)
}

/// What a client may post here, and the ICE servers to use.
pub async fn offer_options(State(app): State<Arc<App>>) -> Response {
    let fixed = [(header::HeaderName::from_static("accept-post"), SDP), (header::ALLOW, "POST, OPTIONS")];
    let mut response = (StatusCode::NO_CONTENT, fixed).into_response();
    add_links(response.headers_mut(), &app);
    response
}

/// What a client may do with its peer.
pub async fn peer_options() -> Response {
    let fixed = [
        (header::HeaderName::from_static("accept-patch"), FRAGMENT),
        (header::ALLOW, "PATCH, DELETE, OPTIONS"),
    ];
    (StatusCode::NO_CONTENT, fixed).into_response()
}
