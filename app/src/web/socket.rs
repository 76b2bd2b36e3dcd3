//! The control socket: parameters in step in every page, and figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use dreamglass_engine::Params;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{interval, timeout};

use super::access::Right;
use super::body::{Asked, StreamName};
use super::error::{ErrorBody, Problem};
use super::params::{self, Values};
use super::{ApiError, App, presets};
use crate::hub::report::{Phase, Report};
use crate::hub::{Channel, Notice};

/// Longest message of a page: all parameters at once, with the longest prompts.
const MAX_MESSAGE: usize = super::MAX_BODY;

/// Messages in a second before a page is taken for a flood.
const MAX_RATE: u32 = 60;

/// How often figures are told.
const TELLING: Duration = Duration::from_millis(500);

/// How long a page may take to read a message.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a page may take to answer a farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    Set { id: u64, params: BTreeMap<String, serde_json::Value> },
    LoadPreset { id: u64, name: String },
    Clock { sent_ms: f64 },
}

/// What a page is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told {
    Hello {
        stream: String,
        epoch_unix_ms: f64,
        can_control: bool,
        params: Values,
        phase: Phase,
        source: String,
    },
    Params {
        params: Values,
    },
    Phase {
        phase: Phase,
        source: String,
    },
    Trouble {
        message: String,
    },
    Stats {
        stats: Box<Report>,
    },
    Done {
        id: u64,
    },
    Refused {
        id: Option<u64>,
        error: Problem,
    },
    Clock {
        sent_ms: f64,
        server_unix_ms: f64,
    },
    Bye {
        reason: String,
    },
}

/// The end of a connection.
struct Over;

/// Opens the control socket of a stream: messages are JSON, described in README.
#[utoipa::path(get, path = "/api/socket", params(StreamName), responses(
    (status = 101, description = "A WebSocket"),
    (status = 400, description = "This is no WebSocket's request", body = ErrorBody),
    (status = 404, description = "There is no such stream", body = ErrorBody),
    (status = 426, description = "This is no WebSocket's request", body = ErrorBody),
    (status = 503, description = "There is no room for another page", body = ErrorBody),
))]
pub async fn open(
    State(app): State<Arc<App>>,
    Extension(right): Extension<Right>,
    Asked(StreamName { stream }): Asked<StreamName>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let channel = app.stream(&stream)?;
    let upgrade = upgrade.map_err(|error| ApiError::new(error.status(), "websocket", error.body_text()))?;
    let permit = Arc::clone(&app.sockets).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::full("as many pages as this server takes are open"))?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let page = Page { app, channel, socket, can_control: right == Right::Control, heard: Budget::new() };
        page.run(permit).await;
    }))
}

/// Messages that may still come this second.
struct Budget {
    since: Instant,
    count: u32,
}

impl Budget {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }
    fn is_spent(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.count += 1;
        self.count > MAX_RATE
    }
}

struct Page {
    app: Arc<App>,
    channel: Arc<Channel>,
    socket: WebSocket,
    can_control: bool,
    heard: Budget,
}

impl Page {
    async fn run(mut self, _permit: OwnedSemaphorePermit) {
        // An error is a page that is gone; there is nobody to tell.
        let _ = self.talk().await;
    }
    async fn talk(&mut self) -> Result<(), Over> {
        let mut notices = self.channel.notices();
        let mut telling = interval(TELLING);
        let app = Arc::clone(&self.app);
        let hello = self.hello();
        self.tell(&hello).await?;
        loop {
            tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text).await?,
                    Some(Ok(Message::Binary(_))) => self.close(close_code::UNSUPPORTED, "text is expected").await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => if self.heard.is_spent() {
                        self.flood().await?;
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                },
                notice = notices.recv() => self.note(notice).await?,
                _ = telling.tick() => {
                    let stats = Box::new(self.channel.report());
                    self.tell(&Told::Stats { stats }).await?;
                }
                () = app.ended() => return self.bye("the server ends").await,
            }
        }
    }
    fn hello(&self) -> Told {
        let (phase, source) = self.channel.phase();
        Told::Hello {
            stream: self.channel.name().into(),
            epoch_unix_ms: unix_ms(self.channel.epoch()),
            can_control: self.can_control,
            params: params::values(&self.channel.params()),
            phase: phase.into(),
            source,
        }
    }
    async fn note(&mut self, notice: Result<Notice, RecvError>) -> Result<(), Over> {
        let params = |params: &Params| Told::Params { params: params::values(params) };
        match notice {
            Ok(Notice::Params(new)) => self.tell(&params(&new)).await,
            Ok(Notice::Phase(phase, source)) => self.tell(&Told::Phase { phase: phase.into(), source }).await,
            Ok(Notice::Trouble(message)) => self.tell(&Told::Trouble { message }).await,
            // What was missed is told as it is now.
            Err(RecvError::Lagged(_)) => {
                let now = params(&self.channel.params());
                self.tell(&now).await
            }
            Ok(Notice::Over(reason)) => self.bye(&reason).await,
            Err(RecvError::Closed) => self.bye("the stream has ended").await,
        }
    }
    async fn hear(&mut self, text: &str) -> Result<(), Over> {
        if self.heard.is_spent() {
            return self.flood().await;
        }
        let said = match serde_json::from_str(text) {
            Ok(said) => said,
            Err(error) => return self.refuse(None, &bad_message(&error.to_string())).await,
        };
        let (id, result) = match said {
            Said::Clock { sent_ms } => {
                let server_unix_ms = unix_ms(SystemTime::now());
                return self.tell(&Told::Clock { sent_ms, server_unix_ms }).await;
            }
            Said::Set { id, .. } | Said::LoadPreset { id, .. } if !self.can_control => (id, Err(view_only())),
            Said::Set { id, params } => (id, set(&self.channel, params).await),
            Said::LoadPreset { id, name } => {
                let (app, channel) = (Arc::clone(&self.app), Arc::clone(&self.channel));
                (id, presets::load_into(&app, channel.name(), &name).await.map(drop))
            }
        };
        match result {
            Ok(()) => self.tell(&Told::Done { id }).await,
            Err(error) => self.refuse(Some(id), &error).await,
        }
    }
    async fn refuse(&mut self, id: Option<u64>, error: &ApiError) -> Result<(), Over> {
        let error = error.problem().clone();
        self.tell(&Told::Refused { id, error }).await
    }
    async fn tell(&mut self, told: &Told) -> Result<(), Over> {
        let text = serde_json::to_string(told).map_err(|_| Over)?;
        // A page that does not read is not waited for.
        match timeout(PATIENCE, self.socket.send(Message::Text(text.into()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }
    async fn bye(&mut self, reason: &str) -> Result<(), Over> {
        self.tell(&Told::Bye { reason: reason.into() }).await?;
        self.close(close_code::AWAY, reason).await
    }
    async fn flood(&mut self) -> Result<(), Over> {
        self.close(close_code::POLICY, "more than 60 messages in a second").await
    }
    /// Ends the connection; always an error, so that nothing follows.
    async fn close(&mut self, code: u16, reason: &str) -> Result<(), Over> {
        let frame = CloseFrame { code, reason: reason.chars().take(100).collect::<String>().into() };
        let _ = timeout(PATIENCE, self.socket.send(Message::Close(Some(frame)))).await;
        // What still comes is read: a connection closed with unread bytes is reset, and the reason lost.
        let rest = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = timeout(FAREWELL, rest).await;
        Err(Over)
    }
}

async fn set(channel: &Channel, changes: BTreeMap<String, serde_json::Value>) -> Result<(), ApiError> {
    params::set(channel, params::plain(changes)?).await.map(drop)
}

fn bad_message(why: &str) -> ApiError {
    ApiError::new(
        axum::http::StatusCode::BAD_REQUEST,
        "message",
        format!("the message cannot be read: {why}"),
    )
}

fn view_only() -> ApiError {
    ApiError::new(axum::http::StatusCode::FORBIDDEN, "view_only", "this token lets watch only")
}

/// Milliseconds since 1970.
fn unix_ms(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
