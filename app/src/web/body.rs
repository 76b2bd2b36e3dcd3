//! Bodies and queries from strangers, refused as JSON.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::ApiError;
use crate::hub::MAIN;

/// Text of one content type, which the handler names.
pub struct Text {
    kind: String,
    body: Bytes,
}

/// A JSON body.
pub struct Json<T>(pub T);

/// Which stream is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamName {
    /// Name of the stream.
    #[serde(default = "main_stream")]
    #[param(default = "main", min_length = 1, max_length = 32, pattern = "^[a-z0-9_-]{1,32}$")]
    pub stream: String,
}

fn main_stream() -> String {
    MAIN.into()
}

/// A query.
pub struct Asked<T>(pub T);

/// The content type without its parameters.
fn kind(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn refused(rejection: &BytesRejection, limit: usize) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is too long: expected at most {limit} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", message)
        }
        status => ApiError::new(status, "body", rejection.body_text()),
    }
}

impl Text {
    /// The text, if it is of this content type.
    ///
    /// # Errors
    /// 415, and 400 for what is no UTF-8 text or empty.
    pub fn of(&self, expected: &str) -> Result<&str, ApiError> {
        if self.kind != expected {
            let got = if self.kind.is_empty() { "none" } else { &self.kind };
            let message = format!("Content-Type {expected} is expected, got {got:.100}");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
        let bad = |message| ApiError::new(StatusCode::BAD_REQUEST, "sdp", message);
        let text = std::str::from_utf8(&self.body).map_err(|_| bad("the body is no UTF-8 text"))?;
        if text.trim().is_empty() { Err(bad("the body is empty")) } else { Ok(text) }
    }
}

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = kind(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|e| refused(&e, super::MAX_SDP))?;
        Ok(Self { kind, body })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = kind(request.headers());
        if kind != "application/json" {
            let message = format!("Content-Type application/json is expected, got {kind:.100}");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
        let body = Bytes::from_request(request, state).await.map_err(|e| refused(&e, super::MAX_BODY))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "json", format!("the body cannot be read: {error}"))
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "query",
                format!("the query cannot be read: {}", error.body_text()),
            )
        })
    }
}
