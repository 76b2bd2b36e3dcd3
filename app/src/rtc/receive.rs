//! Packets of a publisher on their way to access units.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp;
use tokio::sync::{Notify, mpsc, watch};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::PeerEvent;
use super::assemble::{Assembled, Assembler};
use super::events::{self, Events};
use super::reorder::Packet;

/// A key frame is asked for at most this often: it is the largest thing a publisher can send.
const KEY_EVERY: Duration = Duration::from_millis(500);
/// Another SSRC takes over when the one before was silent this long; before, it is another layer of simulcast.
const SILENCE: Duration = Duration::from_secs(1);
/// When there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(3600);

/// The one stream of a publisher.
pub struct Incoming {
    events: Arc<Events>,
    assembler: Assembler,
    source: Option<(u32, Instant)>,
    is_key_wanted: bool,
    last_asked: Option<Instant>,
}

impl Incoming {
    pub fn new(events: Arc<Events>) -> Self {
        Self { events, assembler: Assembler::default(), source: None, is_key_wanted: false, last_asked: None }
    }

    /// Waits for the track and reads it until it or the peer ends.
    pub async fn run(
        mut self,
        mut tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
        key_wish: Arc<Notify>,
        mut closing: watch::Receiver<bool>,
    ) {
        let track = tokio::select! {
            track = tracks.recv() => track,
            () = events::set(&mut closing) => None,
        };
        let Some(track) = track else { return };
        loop {
            tokio::select! {
                event = track.poll() => match event {
                    Some(TrackRemoteEvent::OnRtpPacket(packet)) => self.take(packet),
                    Some(TrackRemoteEvent::OnEnded) | None => break,
                    Some(_) => {}
                },
                () = key_wish.notified() => self.is_key_wanted = true,
                () = tokio::time::sleep_until(self.wake().into()) => {}
                () = events::set(&mut closing) => break,
            }
            self.hand_up(Instant::now());
            self.ask(track.as_ref(), Instant::now()).await;
        }
    }

    fn take(&mut self, packet: rtp::Packet) {
        let (now, rtp::Packet { header, payload }) = (Instant::now(), packet);
        match self.source {
            Some((ssrc, heard)) if ssrc != header.ssrc => {
                if now - heard < SILENCE {
                    return;
                }
                self.assembler = Assembler::default();
            }
            _ => {}
        }
        self.source = Some((header.ssrc, now));
        self.events.heard();
        self.events.figures().packets_in.fetch_add(1, Relaxed);
        self.events.figures().bytes_in.fetch_add(payload.len() as u64, Relaxed);
        let (sequence, time, marker) = (header.sequence_number, header.timestamp, header.marker);
        self.assembler.push(now, Packet { sequence, time, marker, payload });
    }

    fn hand_up(&mut self, now: Instant) {
        while let Some(result) = self.assembler.next(now) {
            match result {
                Assembled::Lost => self.events.tell(PeerEvent::UnitsLost),
                Assembled::Unit(unit) => {
                    let is_key = unit.is_key;
                    if self.events.tell_unit(unit) {
                        self.is_key_wanted &= !is_key;
                    } else {
                        self.assembler.lose();
                        self.events.tell(PeerEvent::UnitsLost);
                    }
                }
            }
        }
        self.events.figures().units_lost.fetch_add(self.assembler.take_dropped(), Relaxed);
    }

    fn wants_key(&self) -> bool {
        self.is_key_wanted || self.assembler.is_key_wanted()
    }

    async fn ask(&mut self, track: &dyn TrackRemote, now: Instant) {
        let may_ask = self.last_asked.is_none_or(|at| now - at >= KEY_EVERY);
        let Some((media_ssrc, _)) = self.source.filter(|_| may_ask && self.wants_key()) else { return };
        (self.is_key_wanted, self.last_asked) = (false, Some(now));
        let wish = PictureLossIndication { sender_ssrc: 0, media_ssrc };
        if let Err(error) = track.write_rtcp(vec![Box::new(wish)]).await {
            tracing::debug!(%error, "asking for a key frame");
        }
    }

    /// When there is something to do though nothing comes in.
    fn wake(&self) -> Instant {
        let ask = self.last_asked.map(|at| at + KEY_EVERY).filter(|_| self.wants_key());
        let soonest = [self.assembler.deadline(), ask].into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + IDLE)
    }
}
