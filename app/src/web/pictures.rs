//! Single pictures, for whoever cannot or need not have video.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dreamglass_engine::Planes;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::body::{Asked, StreamName};
use super::error::ErrorBody;
use super::{ApiError, App};
use crate::hub::Channel;

/// Quality of JPEGs, 1..=100.
const QUALITY: u8 = 85;

/// Between two looks for a new picture: at most so many are sent.
const BEAT: Duration = Duration::from_millis(66);

/// What separates pictures.
const BOUNDARY: &str = "dreamglass-picture";

/// The last JPEG of each stream: it is coded once for all who look.
#[derive(Default)]
pub struct Pictures(Mutex<HashMap<String, (Weak<Planes>, Bytes)>>);

impl Pictures {
    fn known(&self, stream: &str, planes: &Arc<Planes>) -> Option<Bytes> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, jpeg) = known.get(stream)?;
        std::ptr::eq(of.as_ptr(), Arc::as_ptr(planes)).then(|| jpeg.clone())
    }
    fn keep(&self, stream: &str, planes: &Arc<Planes>, jpeg: &Bytes) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (of, _)| of.strong_count() > 0);
        known.insert(stream.into(), (Arc::downgrade(planes), jpeg.clone()));
    }
}

async fn jpeg(app: &App, channel: &Channel, planes: Arc<Planes>) -> Result<Bytes, ApiError> {
    if let Some(jpeg) = app.pictures.known(channel.name(), &planes) {
        return Ok(jpeg);
    }
    let of = Arc::clone(&planes);
    let coded = spawn_blocking(move || encode(&of)).await.map_err(|error| failed(error.to_string()))??;
    app.pictures.keep(channel.name(), &planes, &coded);
    Ok(coded)
}

fn encode(planes: &Planes) -> Result<Bytes, ApiError> {
    let picture = planes.to_picture().map_err(|error| failed(error.to_string()))?;
    let rgb: Vec<u8> = picture.rgba().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .write_image(&rgb, picture.size().width, picture.size().height, ExtendedColorType::Rgb8)
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes.into())
}

fn failed(message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
}

/// The last picture.
#[utoipa::path(get, path = "/api/snapshot.jpg", params(StreamName), responses(
    (status = 200, description = "The picture", content_type = "image/jpeg", body = Vec<u8>),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 503, description = "There is no picture yet", body = ErrorBody),
))]
pub async fn snapshot(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Response, ApiError> {
    let channel = app.stream(&stream)?;
    let none = || {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_picture", "there is no picture yet").retry_after(1)
    };
    let bytes = jpeg(&app, &channel, channel.snapshot().ok_or_else(none)?).await?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response())
}

/// A viewer of single pictures.
struct Looking {
    app: Arc<App>,
    channel: Arc<Channel>,
    last: Weak<Planes>,
    beat: tokio::time::Interval,
    _permit: OwnedSemaphorePermit,
}

impl Looking {
    /// The next picture as a part; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                _ = self.beat.tick() => {}
                () = self.app.ended() => return None,
            }
            self.app.hub.stream(self.channel.name())?;
            let Some(planes) = self.channel.snapshot() else { continue };
            if std::ptr::eq(self.last.as_ptr(), Arc::as_ptr(&planes)) {
                continue;
            }
            self.last = Arc::downgrade(&planes);
            let jpeg = jpeg(&self.app, &self.channel, planes).await.ok()?;
            let head =
                format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            return Some([head.as_bytes(), &jpeg, b"\r\n"].concat().into());
        }
    }
}

/// Pictures without end, the newest each time: for viewers without WebRTC.
#[utoipa::path(get, path = "/stream.mjpg", params(StreamName), responses(
    (status = 200, description = "Pictures without end", content_type = "multipart/x-mixed-replace", body = Vec<u8>),
    (status = 400, description = "The query cannot be read", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 503, description = "There is no room for another viewer", body = ErrorBody),
))]
pub async fn mjpeg(
    State(app): State<Arc<App>>,
    Asked(StreamName { stream }): Asked<StreamName>,
) -> Result<Response, ApiError> {
    let channel = app.stream(&stream)?;
    let permit = Arc::clone(&app.viewers).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::full("as many viewers as this server takes are here"))?;
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = Looking { app, channel, last: Weak::new(), beat, _permit: permit };
    // A part is made when the one before has gone: who is slow misses pictures.
    let parts = futures_util::stream::unfold(looking, |mut looking| async {
        let part = looking.next().await?;
        Some((Ok::<_, Infallible>(part), looking))
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response())
}
