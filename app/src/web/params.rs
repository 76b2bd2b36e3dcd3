//! Parameters, streams and how they are doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dreamglass_engine::Params;
use dreamglass_engine::params::{Group, Kind, Parameter, Value, schema as parameters};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Asked, Json as Body, StreamName};
use super::error::ErrorBody;
use super::{ApiError, App};
use crate::hub::Channel;
use crate::hub::report::{Phase, Report};

/// Values by the names of parameters.
pub type Values = BTreeMap<String, Value>;

/// Every parameter, every look and every LoRA.
#[derive(Serialize, ToSchema)]
pub struct Schema {
    /// The parameters in the order in which people should see them.
    parameters: Vec<Described>,
    /// The model's looks.
    looks: Vec<Look>,
    /// The LoRAs that the model is loaded with: `lora_1` is the weight of the first.
    loras: Vec<Lora>,
}

/// A parameter.
#[derive(Serialize, ToSchema)]
struct Described {
    /// Its name.
    name: &'static str,
    /// What it takes.
    #[schema(value_type = Object)]
    kind: Kind,
    /// Its value where nobody said another.
    #[schema(value_type = serde_json::Value)]
    default: Value,
    /// Unit, or nothing.
    unit: &'static str,
    /// What it does.
    doc: &'static str,
    /// Which parameters it stands beside.
    group: &'static str,
    /// Whether it takes `auto`.
    has_auto: bool,
}

/// A prompt with a name.
#[derive(Serialize, ToSchema)]
struct Look {
    /// The name.
    name: String,
    /// The prompt.
    prompt: String,
}

/// A LoRA in the model.
#[derive(Serialize, ToSchema)]
struct Lora {
    /// Its file's name.
    name: String,
    /// Its weight where the parameter says `auto`.
    weight: f32,
}

/// A stream, in a few words.
#[derive(Serialize, ToSchema)]
pub struct Stream {
    /// Its name.
    name: String,
    /// Where it is.
    phase: Phase,
    /// What its source calls itself.
    source: String,
    /// Whether somebody publishes to it.
    has_publisher: bool,
    /// How many watch.
    viewers: u64,
    /// Pictures per second.
    fps: f32,
    /// Size of the last picture.
    size: Option<String>,
}

/// How the server is.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// Whether it can do its work.
    ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn describe(parameter: &Parameter) -> Described {
    let Parameter { name, kind, default, unit, doc, has_auto, .. } = parameter;
    let group = match parameter.group {
        Group::Prompt => "prompt",
        Group::Lora => "lora",
        Group::Sampling => "sampling",
        Group::Picture => "picture",
        Group::Stream => "stream",
    };
    Described { name, kind: *kind, default: default.clone(), unit, doc, group, has_auto: *has_auto }
}

/// All parameters of `params` by name.
pub fn values(params: &Params) -> Values {
    let value = |p: &Parameter| params.get(p.name).map(|value| (p.name.to_string(), value));
    parameters().iter().filter_map(value).collect()
}

/// Sets `changes`, all or none of them: all values then.
///
/// # Errors
/// What [`ApiError`] says of a value that is refused.
pub async fn set(channel: &Channel, changes: Values) -> Result<Values, ApiError> {
    match channel.change(changes.into_iter().collect()).await {
        Some(Ok(params)) => Ok(values(&params)),
        Some(Err(error)) => Err(error.into()),
        None => Err(ApiError::ended()),
    }
}

/// Every parameter with its type, range and default, and the model's looks and LoRAs.
#[utoipa::path(get, path = "/api/schema", responses((status = 200, description = "The schema", body = Schema)))]
pub async fn schema(State(app): State<Arc<App>>) -> Json<Schema> {
    let looks = app.hub.looks().looks.iter();
    let looks = looks.map(|look| Look { name: look.name.clone(), prompt: look.prompt.clone() }).collect();
    let loras = app.hub.loras().iter();
    let loras = loras.map(|lora| Lora { name: lora.name(), weight: lora.weight }).collect();
    Json(Schema { parameters: parameters().iter().map(describe).collect(), looks, loras })
}

/// All streams.
#[utoipa::path(get, path = "/api/streams", responses((status = 200, description = "The streams", body = Vec<Stream>)))]
pub async fn streams(State(app): State<Arc<App>>) -> Json<Vec<Stream>> {
    let brief = |channel: &Arc<Channel>| {
        let Report { stream, phase, source, viewers, fps, size, .. } = channel.report();
        Stream { name: stream, phase, source, has_publisher: channel.has_publisher(), viewers, fps, size }
    };
    Json(app.hub.streams().iter().map(brief).collect())
}

/// All parameters of a stream.
#[utoipa::path(get, path = "/api/params", params(StreamName), responses(
    (status = 200, description = "The values", body = super::openapi::Parameters),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
))]
pub async fn read(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Json<Values>, ApiError> {
    Ok(Json(values(&app.stream(&stream)?.params())))
}

/// Changes some parameters of a stream, all of those that are named or none.
#[utoipa::path(patch, path = "/api/params", params(StreamName), request_body = super::openapi::SomeParameters, responses(
    (status = 200, description = "All values", body = super::openapi::Parameters),
    (status = 400, description = "Query or body cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 413, description = "The body is too long", body = ErrorBody),
    (status = 415, description = "The body is no JSON", body = ErrorBody),
    (status = 422, description = "A parameter does not take its value, or they do not go together", body = ErrorBody),
    (status = 503, description = "The stream has just ended", body = ErrorBody),
))]
pub async fn change(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
    Body(changes): Body<BTreeMap<String, serde_json::Value>>,
) -> Result<Json<Values>, ApiError> {
    let channel = app.stream(&stream)?;
    Ok(Json(set(&channel, plain(changes)?).await?))
}

/// Values of parameters out of JSON; what is neither number, text nor switch is no value of any.
///
/// # Errors
/// 422 with the parameter's name.
pub fn plain(changes: BTreeMap<String, serde_json::Value>) -> Result<Values, ApiError> {
    let value = |(name, value): (String, serde_json::Value)| match serde_json::from_value::<Value>(value) {
        Ok(value) => Ok((name, value)),
        Err(_) => {
            let expected = dreamglass_engine::params::parameter(&name).map(|p| p.kind.to_string());
            let expected = expected.unwrap_or_else(|| "a number, a text, true or false".into());
            let got = "null, a list or an object".to_string();
            Err(dreamglass_engine::EngineError::Parameter { name, expected, got }.into())
        }
    };
    changes.into_iter().map(value).collect()
}

/// Everything that is measured of a stream.
#[utoipa::path(get, path = "/api/stats", params(StreamName), responses(
    (status = 200, description = "The figures", body = Report),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
))]
pub async fn stats(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Json<Report>, ApiError> {
    Ok(Json(app.stream(&stream)?.report()))
}

/// Whether the server lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It lives", body = Health)))]
pub async fn healthz() -> Json<Health> {
    Json(Health { ok: true, reason: None })
}

/// Whether pictures can be made.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "They can", body = Health),
    (status = 503, description = "The model is being loaded, or the main stream is over", body = Health),
))]
pub async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    let phase = app.hub.stream(crate::hub::MAIN).map(|main| main.report().phase);
    let reason = match phase {
        None => "the main stream is over",
        Some(Phase::Loading) => "the model is being loaded",
        Some(Phase::Compiling) => "kernels are being compiled",
        Some(_) => return (StatusCode::OK, Json(Health { ok: true, reason: None })),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(Health { ok: false, reason: Some(reason.into()) }))
}
