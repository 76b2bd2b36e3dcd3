//! The server: pages, signalling, control and measurements over HTTP.
//!
//! Only [`crate::hub`] and [`crate::peers`] are behind it; it knows neither engine nor device.

mod access;
mod body;
mod connections;
mod error;
mod metrics;
mod openapi;
pub mod osc;
mod pages;
mod params;
mod pictures;
mod presets;
mod rates;
mod sessions;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};

pub use self::access::{Access, Tokens};
pub use self::connections::serve;
pub use self::error::ApiError;
use crate::hub::{Channel, Hub};
use crate::peers::Peers;
use crate::preset::Shelf;
use crate::rtc::IceServer;

/// Longest body: a preset with several of the longest prompts.
const MAX_BODY: usize = 256 << 10;

/// Longest offer or fragment.
const MAX_SDP: usize = 64 << 10;

/// Control sockets at once.
const MAX_SOCKETS: usize = 64;

/// What the server is made of.
pub struct Setup {
    /// Streams.
    pub hub: Arc<Hub>,
    /// WebRTC peers.
    pub peers: Peers,
    /// Who may do what.
    pub access: Access,
    /// Room for viewers, WebRTC and MJPEG.
    pub viewers: Arc<Semaphore>,
    /// Saved presets.
    pub presets: Shelf,
    /// STUN and TURN servers that peers are told of.
    pub ice_servers: Vec<IceServer>,
}

/// What every handler has.
pub struct App {
    hub: Arc<Hub>,
    peers: Peers,
    access: Access,
    viewers: Arc<Semaphore>,
    presets: Shelf,
    links: Vec<String>,
    sockets: Arc<Semaphore>,
    offers: rates::Rates,
    pictures: pictures::Pictures,
    metrics: metrics::Metrics,
    ending: watch::Sender<bool>,
}

impl App {
    /// The server's state.
    pub fn new(setup: Setup) -> Arc<Self> {
        let Setup { hub, peers, access, viewers, presets, ice_servers } = setup;
        Arc::new(Self {
            hub,
            peers,
            access,
            viewers,
            presets,
            links: ice_servers.iter().flat_map(sessions::links).collect(),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
            offers: rates::Rates::default(),
            pictures: pictures::Pictures::default(),
            metrics: metrics::Metrics::new(),
            ending: watch::Sender::new(false),
        })
    }
    /// Tells sockets and pictures without end that the server goes.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }
    /// Resolves when the server goes.
    async fn ended(&self) {
        let mut ending = self.ending.subscribe();
        let _ = ending.wait_for(|is_over| *is_over).await;
    }
    /// The stream called `name`.
    fn stream(&self, name: &str) -> Result<Arc<Channel>, ApiError> {
        self.hub.stream(name).ok_or_else(|| ApiError::no_stream(name))
    }
}

/// Every route.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::page))
        .route("/view", get(pages::view))
        .route("/assets/{file}", get(pages::asset))
        .merge(signalling())
        .route("/api/schema", get(params::schema))
        .route("/api/streams", get(params::streams))
        .route("/api/params", get(params::read).patch(params::change))
        .route("/api/stats", get(params::stats))
        .route("/api/presets", get(presets::list))
        .route("/api/presets/{name}", get(presets::read).put(presets::save).delete(presets::delete))
        .route("/api/presets/{name}/load", post(presets::load))
        .route("/api/viewer-link", get(pages::viewer_link))
        .route("/api/snapshot.jpg", get(pictures::snapshot))
        .route("/stream.mjpg", get(pictures::mjpeg))
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/socket", get(socket::open))
        .route("/healthz", get(params::healthz))
        .route("/readyz", get(params::readyz))
        .route("/metrics", get(metrics::text))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::not_allowed)
        .with_state(Arc::clone(app))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(app), access::check))
        .layer(from_fn_with_state(Arc::clone(app), metrics::count))
        .layer(from_fn(pages::protect))
}

fn signalling() -> Router<Arc<App>> {
    Router::new()
        .route("/whep", post(sessions::whep_main).options(sessions::offer_options))
        .route("/whep/{stream}", post(sessions::whep).options(sessions::offer_options))
        .route("/whip/{stream}", post(sessions::whip).options(sessions::offer_options))
        .route(
            "/peers/{id}",
            axum::routing::patch(sessions::patch).delete(sessions::delete).options(sessions::peer_options),
        )
        .layer(DefaultBodyLimit::max(MAX_SDP))
}

/// How long open requests may take at the end.
pub const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
