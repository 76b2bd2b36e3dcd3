//! A viewer's task: units of its stream to its peer.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::{CONNECTING, GONE, Viewing, ended};
use crate::codec::Unit;
use crate::codec::video_out::Subscription;
use crate::hub::Notice;
use crate::rtc::{AccessUnit, PeerEvent};

/// Runs until the viewer or the stream is gone.
pub(super) async fn run(viewing: Viewing) {
    let Viewing { channel, peer, mut events, mut end, _permit } = viewing;
    let mut notices = channel.notices();
    // None while it is not connected: nothing is coded for nobody.
    let mut subscription: Option<Subscription> = None;
    let mut deadline = Instant::now() + CONNECTING;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(PeerEvent::Connected) => subscription = Some(channel.subscribe()),
                Some(PeerEvent::Disconnected) => {
                    subscription = None;
                    deadline = Instant::now() + GONE;
                }
                Some(PeerEvent::Failed(reason)) => {
                    tracing::warn!("viewer of {}: {reason}", channel.name());
                    break;
                }
                Some(PeerEvent::Closed) | None => break,
                Some(event) => react(subscription.as_mut(), &event),
            },
            unit = next(subscription.as_mut()) => match (unit, &mut subscription) {
                (Some(unit), Some(subscription)) => {
                    let Unit { data, rtp_time, is_key } = &*unit;
                    let unit = AccessUnit { data: data.clone(), rtp_time: *rtp_time, is_key: *is_key };
                    if !peer.send(&unit) {
                        subscription.missed();
                    }
                }
                _ => break,
            },
            notice = notices.recv() => match notice {
                Ok(Notice::Over(_)) | Err(RecvError::Closed) => break,
                _ => {}
            },
            () = sleep_until(deadline), if subscription.is_none() => {
                tracing::info!("viewer of {}: no connection, forgotten", channel.name());
                break;
            }
            () = ended(&mut end) => break,
        }
    }
    drop(subscription);
    peer.close().await;
}

fn react(subscription: Option<&mut Subscription>, event: &PeerEvent) {
    let Some(subscription) = subscription else { return };
    match event {
        PeerEvent::KeyFrameWanted => subscription.want_key(),
        PeerEvent::Estimate { bits_per_s } => subscription.estimated(*bits_per_s as f64),
        PeerEvent::Loss { fraction } => subscription.lost(f64::from(*fraction)),
        _ => {}
    }
}

/// The next unit; never where there is no subscription.
async fn next(subscription: Option<&mut Subscription>) -> Option<Arc<Unit>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
