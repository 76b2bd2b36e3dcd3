//! A peer's figures, where it stands, and the way of its events to the reader.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Sender};
use tokio::sync::watch;

use super::{AccessUnit, PeerEvent, PeerEvents, PeerState, PeerStats};

/// Events that wait for the reader: about half a second of units, and room for the rest.
const CAPACITY: usize = 64;
/// Places that access units leave to events which must not be lost.
const RESERVED: usize = 24;
/// Places that reports leave to changes of state: these come a few times in a peer's life.
const FOR_STATES: usize = 8;

/// The crate's driver shows that it lives every second; after this long it does not.
const DRIVER_SILENCE: Duration = Duration::from_secs(10);

/// Shared by everything that works for one peer.
#[derive(Debug)]
pub struct Events {
    sender: Sender<PeerEvent>,
    state: watch::Sender<PeerState>,
    figures: Figures,
    /// `None` before the handshake: the driver lets nobody know until then.
    last_pulse: Mutex<Option<Instant>>,
    has_left: AtomicBool,
    was_connected: AtomicBool,
    /// Addresses that each side offered, to be named when none worked.
    offered: Mutex<(String, String)>,
}

/// Counters; [`PeerStats`] says what they mean.
#[derive(Debug, Default)]
pub struct Figures {
    pub bytes_out: AtomicU64,
    pub packets_out: AtomicU64,
    pub bytes_in: AtomicU64,
    pub packets_in: AtomicU64,
    pub units_in: AtomicU64,
    pub units_lost: AtomicU64,
    pub round_trip_us: AtomicU64,
}

impl Events {
    /// The teller and the reader.
    pub fn new() -> (Self, PeerEvents) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let events = Self {
            sender,
            state: watch::Sender::new(PeerState::Connecting),
            figures: Figures::default(),
            last_pulse: Mutex::new(None),
            has_left: AtomicBool::new(false),
            was_connected: AtomicBool::new(false),
            offered: Mutex::default(),
        };
        (events, receiver)
    }

    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    pub fn state(&self) -> PeerState {
        *self.state.borrow()
    }

    /// Changes of the state, for those who wait.
    pub fn states(&self) -> watch::Receiver<PeerState> {
        self.state.subscribe()
    }

    /// Tells a report; left out when the reader is far behind, as the next report says it again.
    pub fn tell(&self, event: PeerEvent) {
        if self.sender.capacity() > FOR_STATES {
            let _ = self.sender.try_send(event);
        }
    }

    /// Tells a unit. False: the reader is behind, and the unit is counted as lost.
    pub fn tell_unit(&self, unit: AccessUnit) -> bool {
        let told = self.sender.capacity() > RESERVED && self.sender.try_send(PeerEvent::Unit(unit)).is_ok();
        let counter = if told { &self.figures.units_in } else { &self.figures.units_lost };
        counter.fetch_add(1, Relaxed);
        told
    }

    /// Moves to `state` and tells `event` when that is a change. Failed and closed are left for good,
    /// but for failed to closed.
    pub fn change(&self, state: PeerState, event: PeerEvent) {
        let changed = self.state.send_if_modified(|old| {
            let is_open = match *old {
                PeerState::Closed => false,
                PeerState::Failed => state == PeerState::Closed,
                other => other != state,
            };
            if is_open {
                *old = state;
            }
            is_open
        });
        if changed {
            self.was_connected.fetch_or(state == PeerState::Connected, Relaxed);
            tracing::debug!(?state, "peer");
            let _ = self.sender.try_send(event);
        }
    }

    /// What each side offered, ours first.
    pub fn set_offered(&self, ours: String, theirs: String) {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = (ours, theirs);
    }

    /// The connection is lost for good, or never came about.
    pub fn fail(&self) {
        let why = if self.is_driver_dead() {
            "the transport of this peer stopped working".to_owned()
        } else if self.was_connected.load(Relaxed) {
            "the connection was lost: nothing was heard for 15 s".to_owned()
        } else {
            let (ours, theirs) = &*self.offered.lock().unwrap_or_else(PoisonError::into_inner);
            format!("no candidate pair worked: we offered {ours}; they offered {theirs}")
        };
        self.change(PeerState::Failed, PeerEvent::Failed(why));
    }

    /// The other side said that its stream ends: known at once instead of after the timeout of ICE.
    pub fn said_goodbye(&self) {
        if self.state() == PeerState::Connected {
            self.has_left.store(true, Relaxed);
            self.change(PeerState::Disconnected, PeerEvent::Disconnected);
        }
    }

    /// Media came: a goodbye was about an earlier stream.
    pub fn heard(&self) {
        if self.has_left.swap(false, Relaxed) && self.state() == PeerState::Disconnected {
            self.change(PeerState::Connected, PeerEvent::Connected);
        }
    }

    /// The crate's driver lives.
    pub fn pulse(&self) {
        *self.last_pulse.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the crate's driver stopped, as it does when a packet makes it panic.
    pub fn is_driver_dead(&self) -> bool {
        let last = *self.last_pulse.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() > DRIVER_SILENCE)
    }

    pub fn stats(&self) -> PeerStats {
        let figures = &self.figures;
        let round_trip_us = figures.round_trip_us.load(Relaxed);
        PeerStats {
            bytes_out: figures.bytes_out.load(Relaxed),
            packets_out: figures.packets_out.load(Relaxed),
            bytes_in: figures.bytes_in.load(Relaxed),
            packets_in: figures.packets_in.load(Relaxed),
            units_in: figures.units_in.load(Relaxed),
            units_lost: figures.units_lost.load(Relaxed),
            round_trip: (round_trip_us > 0).then(|| Duration::from_micros(round_trip_us)),
            state: self.state(),
        }
    }
}

/// Waits until the flag is set or nobody is left to set it.
pub async fn set(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|is_set| *is_set).await;
}
