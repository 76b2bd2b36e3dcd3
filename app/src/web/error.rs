//! Every refusal as one kind of JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dreamglass_engine::EngineError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::hub::Refusal;
use crate::peers::PeerError;
use crate::rtc::RtcError;

/// Seconds after which a server that is full may be asked again.
const RETRY_AFTER: u32 = 5;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A word for programs, such as `out_of_range`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The parameter that is wrong, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: Problem,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    /// Boxed, as results with it are everywhere.
    problem: Box<Problem>,
    retry_after: Option<u32>,
}

impl ApiError {
    /// A refusal with `status`, a word for programs and a sentence for people.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        let problem = Problem { code, message, parameter: None, expected: None, got: None };
        Self { status, problem: Box::new(problem), retry_after: None }
    }
    /// The same, to be tried again after so many seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
    /// 404 for a stream.
    pub fn no_stream(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, "no_stream", format!("there is no stream `{name}`"))
    }
    /// 503: the stream ended while it was asked.
    pub fn ended() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ended", "the stream has just ended")
            .retry_after(RETRY_AFTER)
    }
    /// 503: there is no room.
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "full", message).retry_after(RETRY_AFTER)
    }
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: *self.problem })).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        if let EngineError::Parameter { name, expected, got } = error {
            refusal.problem.code = "out_of_range".into();
            refusal.problem.parameter = Some(name);
            refusal.problem.expected = Some(expected);
            refusal.problem.got = Some(got);
        }
        refusal
    }
}

impl From<PeerError> for ApiError {
    fn from(error: PeerError) -> Self {
        let message = error.to_string();
        match error {
            PeerError::NoStream(name) => Self::no_stream(&name),
            PeerError::Full { .. } | PeerError::Refusal(Refusal::Full { .. }) => Self::full(message),
            PeerError::Refusal(Refusal::Busy) => Self::new(StatusCode::CONFLICT, "busy", message),
            PeerError::Refusal(Refusal::Name) => Self::new(StatusCode::NOT_FOUND, "no_stream", message),
            PeerError::Refusal(Refusal::Failed(_)) | PeerError::Rtc(RtcError::Failed(_)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
            }
            PeerError::Rtc(RtcError::Refused(_) | RtcError::OtherCredentials(_)) => {
                Self::new(StatusCode::BAD_REQUEST, "sdp", message)
            }
            PeerError::Rtc(RtcError::NoCodec(_)) => Self::new(StatusCode::NOT_ACCEPTABLE, "no_h264", message),
            PeerError::Rtc(RtcError::Busy(_)) => Self::full(message),
            PeerError::Gone => Self::new(StatusCode::NOT_FOUND, "no_peer", message),
        }
    }
}

/// For every path that is none.
pub async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

/// For a method that the path does not take.
pub async fn not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method")
}
