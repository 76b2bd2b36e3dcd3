//! The API as OpenAPI, made from its types and from the schema of parameters.

use axum::Json;
use dreamglass_engine::params::{AUTO, Kind, Parameter, Value, schema};
use serde_json::{Map, json};
use utoipa::{OpenApi, ToSchema};

use super::{metrics, pages, params, pictures, presets, sessions, socket};

/// The values of all parameters; its properties come from the schema of parameters.
#[derive(ToSchema)]
pub struct Parameters {}

/// The values of some parameters; its properties come from the schema of parameters.
#[derive(ToSchema)]
pub struct SomeParameters {}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dreamglass",
        description = "Live stylised video: streams, parameters, pictures and WebRTC signalling"
    ),
    paths(
        pages::page,
        pages::view,
        pages::asset,
        pages::viewer_link,
        sessions::whep_main,
        sessions::whep,
        sessions::whip,
        sessions::patch,
        sessions::delete,
        params::schema,
        params::streams,
        params::read,
        params::change,
        params::stats,
        params::healthz,
        params::readyz,
        presets::list,
        presets::read,
        presets::save,
        presets::delete,
        presets::load,
        pictures::snapshot,
        pictures::mjpeg,
        metrics::text,
        socket::open,
        document,
    ),
    components(schemas(Parameters, SomeParameters))
)]
struct Document;

/// What a parameter takes, as JSON Schema.
fn value_schema(parameter: &Parameter) -> serde_json::Value {
    let plain = match parameter.kind {
        Kind::Number { min, max, .. } => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Choice { names } => json!({"type": "string", "enum": names}),
        // Characters, where the limit is in bytes: four at most in one.
        Kind::Text { max_bytes } => json!({"type": "string", "maxLength": max_bytes / 4}),
        Kind::Size => json!({"type": "string", "enum": ["64x64", "128x64", "256x256", "512x288"],
            "description": "WIDTHxHEIGHT in pixels, multiples of 8, sides up to 8192; these are examples"}),
    };
    match parameter.has_auto {
        true => json!({"anyOf": [plain, {"type": "string", "const": AUTO}]}),
        false => plain,
    }
}

/// As it comes back: sizes are not only those of the examples.
fn answer_schema(parameter: &Parameter) -> serde_json::Value {
    match parameter.kind {
        Kind::Size => json!({"type": "string"}),
        Kind::Text { .. } => json!({"type": "string"}),
        _ => value_schema(parameter),
    }
}

fn object(schema_of: fn(&Parameter) -> serde_json::Value, is_whole: bool) -> serde_json::Value {
    let mut properties = Map::new();
    for parameter in schema() {
        let mut property = schema_of(parameter);
        property["description"] = json!(parameter.doc);
        if !matches!(parameter.default, Value::Text(ref text) if text.is_empty()) {
            property["default"] = json!(parameter.default);
        }
        properties.insert(parameter.name.into(), property);
    }
    let required: Vec<&str> = if is_whole { schema().iter().map(|p| p.name).collect() } else { Vec::new() };
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The whole document.
pub fn json() -> serde_json::Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    schemas["Parameters"] = object(answer_schema, true);
    schemas["SomeParameters"] = object(value_schema, false);
    document["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    refusals(&mut document);
    document
}

/// Adds what every route may answer: no token, a wrong one, too many wrong ones.
fn refusals(document: &mut serde_json::Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    let body = json!({"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}});
    for operation in
        paths.values_mut().filter_map(|path| path.as_object_mut()).flat_map(|path| path.values_mut())
    {
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        let all = [
            ("401", "A token is needed"),
            ("403", "This token lets watch only, or the page may not use the server"),
            ("429", "Too many wrong tokens"),
        ];
        for (status, description) in all {
            responses.entry(status).or_insert(json!({"description": description, "content": body}));
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Json<serde_json::Value> {
    Json(json())
}
