//! A publisher's task: units of its peer to the stream's decoder.

use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{interval, sleep_until};

use super::{CONNECTING, GONE, ended};
use crate::hub::{Notice, Publication};
use crate::rtc::{Peer, PeerEvent, PeerEvents};

/// How often the decoder's wish for a key frame is looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// What a publisher's task has.
pub(super) struct Publishing {
    pub publication: Publication,
    pub peer: Peer,
    pub events: PeerEvents,
    pub end: watch::Receiver<bool>,
}

/// Runs until the publisher or the stream is gone.
pub(super) async fn run(publishing: Publishing) {
    let Publishing { publication, peer, mut events, mut end } = publishing;
    let mut notices = publication.channel().notices();
    let mut deadline = Some(tokio::time::Instant::now() + CONNECTING);
    let mut glance = interval(GLANCE);
    loop {
        let waiting = deadline.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            event = events.recv() => match event {
                Some(PeerEvent::Unit(unit)) => publication.put(unit.data, unit.is_key, Instant::now()),
                Some(PeerEvent::UnitsLost) => publication.lost(),
                Some(PeerEvent::Connected) => {
                    deadline = None;
                    peer.want_key_frame();
                }
                Some(PeerEvent::Disconnected) => {
                    deadline = Some(tokio::time::Instant::now() + GONE);
                    publication.trouble("the publisher's connection is interrupted".into());
                }
                Some(PeerEvent::Failed(reason)) => {
                    publication.trouble(format!("the publisher's connection failed: {reason}"));
                    break;
                }
                Some(PeerEvent::Closed) | None => break,
                Some(PeerEvent::KeyFrameWanted | PeerEvent::Estimate { .. } | PeerEvent::Loss { .. }) => {}
            },
            _ = glance.tick() => if publication.wants_key() {
                peer.want_key_frame();
            },
            notice = notices.recv() => match notice {
                Ok(Notice::Over(_)) | Err(RecvError::Closed) => break,
                _ => {}
            },
            () = sleep_until(waiting), if deadline.is_some() => break,
            () = ended(&mut end) => break,
        }
    }
    peer.close().await;
}
