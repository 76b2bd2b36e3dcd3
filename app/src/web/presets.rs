//! Saved parameters.

use std::sync::Arc;

use anyhow::Error;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use dreamglass_engine::params::Value;
use tokio::task::spawn_blocking;

use super::body::{Asked, StreamName};
use super::error::ErrorBody;
use super::params::{self, Values};
use super::{ApiError, App};
use crate::preset::{Preset, Shelf};

/// Does what may wait for a disk.
async fn on_disk<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Shelf) -> Result<T, Error> + Send + 'static,
) -> Result<T, ApiError> {
    let shelf = app.presets.clone();
    let failed = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message);
    let result = spawn_blocking(move || work(&shelf)).await.map_err(|error| failed(error.to_string()))?;
    result.map_err(|error| failed(format!("{error:#}")))
}

/// A name that a preset can have.
fn name(name: &str) -> Result<String, ApiError> {
    Shelf::check(name)
        .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "name", error.to_string()))?;
    Ok(name.to_string())
}

async fn open(app: &App, called: &str) -> Result<Preset, ApiError> {
    let called = name(called)?;
    let missing = format!("there is no preset `{called}`");
    let found = on_disk(app, move |shelf| {
        let is_there = shelf.names().contains(&called);
        is_there.then(|| shelf.open(&called)).transpose()
    });
    found.await?.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "no_preset", missing))
}

/// Names of the saved presets.
#[utoipa::path(get, path = "/api/presets", responses(
    (status = 200, description = "The names", body = Vec<String>),
    (status = 500, description = "The disk failed", body = ErrorBody),
))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<String>>, ApiError> {
    Ok(Json(on_disk(&app, |shelf| Ok(shelf.names())).await?))
}

/// The parameters that a preset sets.
#[utoipa::path(get, path = "/api/presets/{name}", params(("name" = String, Path, description = "Name of the preset")), responses(
    (status = 200, description = "The values", body = super::openapi::SomeParameters),
    (status = 404, description = "There is no such preset", body = ErrorBody),
    (status = 422, description = "No preset has such a name", body = ErrorBody),
    (status = 500, description = "The disk failed", body = ErrorBody),
))]
pub async fn read(State(app): State<Arc<App>>, Path(called): Path<String>) -> Result<Json<Values>, ApiError> {
    Ok(Json(open(&app, &called).await?.parameters))
}

/// Saves a stream's parameters under a name, in place of what was there.
#[utoipa::path(put, path = "/api/presets/{name}", params(("name" = String, Path, description = "Name of the preset"), StreamName), responses(
    (status = 200, description = "What was saved", body = super::openapi::SomeParameters),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 422, description = "No preset has such a name", body = ErrorBody),
    (status = 500, description = "The disk failed", body = ErrorBody),
))]
pub async fn save(
    State(app): State<Arc<App>>,
    Path(called): Path<String>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Json<Values>, ApiError> {
    let called = name(&called)?;
    let preset = Preset::of(&app.stream(&stream)?.params());
    let saved = preset.parameters.clone();
    on_disk(&app, move |shelf| shelf.save(&called, &preset)).await?;
    Ok(Json(saved))
}

/// Forgets a preset.
#[utoipa::path(delete, path = "/api/presets/{name}", params(("name" = String, Path, description = "Name of the preset")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "There is no such preset", body = ErrorBody),
    (status = 422, description = "No preset has such a name", body = ErrorBody),
    (status = 500, description = "The disk failed", body = ErrorBody),
))]
pub async fn delete(State(app): State<Arc<App>>, Path(called): Path<String>) -> Result<StatusCode, ApiError> {
    let called = name(&called)?;
    let missing = format!("there is no preset `{called}`");
    match on_disk(&app, move |shelf| shelf.delete(&called)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, "no_preset", missing)),
    }
}

/// Sets a preset's parameters in a stream.
#[utoipa::path(post, path = "/api/presets/{name}/load", params(("name" = String, Path, description = "Name of the preset"), StreamName), responses(
    (status = 200, description = "All values of the stream", body = super::openapi::Parameters),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such preset or stream", body = ErrorBody),
    (status = 422, description = "No preset has such a name, or its values are refused", body = ErrorBody),
    (status = 500, description = "The disk failed", body = ErrorBody),
    (status = 503, description = "The stream has just ended", body = ErrorBody),
))]
pub async fn load(
    State(app): State<Arc<App>>,
    Path(called): Path<String>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Json<Values>, ApiError> {
    Ok(Json(load_into(&app, &stream, &called).await?))
}

/// Sets the preset called `called` in the stream called `stream`.
pub async fn load_into(app: &App, stream: &str, called: &str) -> Result<Values, ApiError> {
    let channel = app.stream(stream)?;
    let Preset { look, mut parameters } = open(app, called).await?;
    if let Some(look) = look
        && !parameters.contains_key("prompt")
    {
        let prompt = app.hub.looks().prompt(Some(&look)).map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "look", format!("preset `{called}`: {error:#}"))
        })?;
        parameters.insert("prompt".into(), Value::Text(prompt.to_string()));
    }
    params::set(&channel, parameters).await
}
