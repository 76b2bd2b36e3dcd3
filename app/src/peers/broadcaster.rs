//! Publishes a stream to a WHIP server (RFC 9725), again and again until the end: an SFU or a CDN takes
//! it from there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use ureq::http::Uri;

use super::ended;
use crate::codec::video_out::Subscription;
use crate::hub::{Channel, Notice};
use crate::rtc::{AccessUnit, Peer, PeerEvent, PeerEvents, Rtc};

/// Waits before a new try: 1, 2, 4, 8, 16, 16, ... seconds.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 4;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// How long a request may take, and a connection from the answer on.
const PATIENCE: Duration = Duration::from_secs(15);

/// Redirections that are followed: servers send publishers to the machine that is free.
const REDIRECTIONS: u32 = 3;

/// Where a stream is published.
#[derive(Debug, Clone)]
pub struct Target {
    /// The WHIP endpoint, http or https.
    pub url: String,
    /// Its bearer token.
    pub token: Option<String>,
}

/// A session with a server.
struct Connection {
    peer: Peer,
    events: PeerEvents,
    /// What is deleted at the end.
    resource: Option<String>,
}

/// Publishes `channel` until the stream is over or `end` says so.
pub async fn run(rtc: Rtc, channel: Arc<Channel>, target: Target, mut end: watch::Receiver<bool>) {
    let mut doublings = 0;
    while !*end.borrow() {
        let began = tokio::time::Instant::now();
        match connect(&rtc, &target).await {
            Ok(connection) => {
                tracing::info!("publishing to {}", target.url);
                let reason = publish(&channel, connection, &target, &mut end).await;
                let Some(reason) = reason else { return };
                tracing::warn!("{}: {reason}; connecting again", target.url);
            }
            Err(error) => tracing::warn!("{}: {error:#}; trying again", target.url),
        }
        // A connection that held starts the waits anew.
        doublings = if began.elapsed() > PATIENCE * 2 { 0 } else { doublings };
        tokio::select! {
            () = sleep(FIRST_WAIT * 2_u32.pow(doublings)) => {}
            () = ended(&mut end) => return,
        }
        doublings = (doublings + 1).min(MAX_DOUBLINGS);
    }
}

async fn connect(rtc: &Rtc, target: &Target) -> Result<Connection> {
    let (peer, events, offer) = rtc.offer_publisher().await?;
    let posted = target.clone();
    let (answer, resource) = tokio::task::spawn_blocking(move || post(&posted, &offer)).await??;
    let connection = Connection { peer, events, resource };
    if let Err(error) = connection.peer.accept_answer(&answer).await {
        leave(connection, target).await;
        return Err(error.into());
    }
    Ok(connection)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // POST is sent again here, with its body.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false);
    config.build().into()
}

/// Posts the offer: the answer and the session's resource.
fn post(target: &Target, offer: &str) -> Result<(String, Option<String>)> {
    let mut url = target.url.clone();
    for _ in 0..=REDIRECTIONS {
        let mut request = agent().post(&url).content_type("application/sdp");
        if let Some(token) = &target.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(offer).context("the WHIP server cannot be reached")?;
        let status = response.status().as_u16();
        let location = response.headers().get("Location").and_then(|l| l.to_str().ok());
        let resource = location.map(|l| resolve(&url, l)).transpose()?;
        if matches!(status, 307 | 308) {
            url = resource.context("a redirection without Location")?;
            continue;
        }
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let body = body.context("the WHIP server's answer cannot be read")?;
        if status != 201 {
            let start: String = body.trim().chars().take(200).collect();
            return Err(anyhow!("the WHIP server said {status}, expected 201: {start}"));
        }
        return Ok((body, resource));
    }
    Err(anyhow!("more than {REDIRECTIONS} redirections"))
}

/// `location` as seen from `base`.
fn resolve(base: &str, location: &str) -> Result<String> {
    let base: Uri = base.parse().with_context(|| format!("{base}: expected a URL"))?;
    let there: Uri = location.parse().with_context(|| format!("Location {location}: expected a URL"))?;
    let scheme = there.scheme_str().or(base.scheme_str()).unwrap_or("https");
    ensure!(matches!(scheme, "http" | "https"), "Location {location}: expected http or https");
    let authority = there.authority().or(base.authority()).context("a URL without a host")?;
    let path = there.path_and_query().map_or("/", |p| p.as_str());
    if path.starts_with('/') {
        return Ok(format!("{scheme}://{authority}{path}"));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Ok(format!("{scheme}://{authority}{folder}/{path}"))
}

/// Sends units until the end: none when there is to be no other try, else why.
async fn publish(
    channel: &Channel,
    mut connection: Connection,
    target: &Target,
    end: &mut watch::Receiver<bool>,
) -> Option<String> {
    let reason = send(channel, &mut connection, end).await;
    leave(connection, target).await;
    reason
}

async fn send(
    channel: &Channel,
    connection: &mut Connection,
    end: &mut watch::Receiver<bool>,
) -> Option<String> {
    let Connection { peer, events, .. } = connection;
    let mut notices = channel.notices();
    match timeout(PATIENCE, connected(events)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Some(reason),
        Err(_) => return Some(format!("no connection in {} s", PATIENCE.as_secs())),
    }
    let mut subscription: Subscription = channel.subscribe();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(PeerEvent::KeyFrameWanted) => subscription.want_key(),
                Some(PeerEvent::Estimate { bits_per_s }) => subscription.estimated(bits_per_s as f64),
                Some(PeerEvent::Loss { fraction }) => subscription.lost(f64::from(fraction)),
                Some(PeerEvent::Failed(reason)) => return Some(reason),
                Some(PeerEvent::Closed) | None => return Some("the server closed the connection".into()),
                Some(_) => {}
            },
            unit = subscription.next() => {
                let unit = unit?;
                let sent = AccessUnit { data: unit.data.clone(), rtp_time: unit.rtp_time, is_key: unit.is_key };
                if !peer.send(&sent) {
                    subscription.missed();
                }
            }
            notice = notices.recv() => if let Ok(Notice::Over(_)) | Err(RecvError::Closed) = notice {
                return None;
            },
            () = ended(end) => return None,
        }
    }
}

async fn connected(events: &mut PeerEvents) -> Result<(), String> {
    loop {
        match events.recv().await {
            Some(PeerEvent::Connected) => return Ok(()),
            Some(PeerEvent::Failed(reason)) => return Err(reason),
            Some(PeerEvent::Closed) | None => return Err("the connection was closed".into()),
            Some(_) => {}
        }
    }
}

/// Closes the connection and deletes the session's resource, as a polite publisher does.
async fn leave(connection: Connection, target: &Target) {
    let Connection { peer, resource, .. } = connection;
    peer.close().await;
    let Some(resource) = resource else { return };
    let token = target.token.clone();
    let delete = move || {
        let mut request = agent().delete(&resource);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call()
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(delete).await {
        tracing::debug!("{}: the session is not deleted: {error}", target.url);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn locations_are_resolved() {
        let at = |base, location| resolve(base, location).unwrap();
        assert_eq!(at("https://a.b/whip/x", "/r/1?y=2"), "https://a.b/r/1?y=2");
        assert_eq!(at("https://a.b/whip/x", "http://c.d:81/r"), "http://c.d:81/r");
        assert!(resolve("https://a.b/", "file:///etc/passwd").is_err());
        assert!(resolve("https://a.b/", "\u{7f}").is_err());
    }
}
