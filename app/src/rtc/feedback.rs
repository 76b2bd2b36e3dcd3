//! What a viewer reports of our stream, taken out of the crate's chain of interceptors.
//!
//! The crate keeps these reports to itself, so an interceptor of ours stands last in the chain, reads what
//! passes and tells the peer's events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use super::PeerEvent;
use super::events::Events;

/// How often the driver lets us know that it lives.
const PULSE: Duration = Duration::from_secs(1);

/// Passes everything on and tells what it saw.
pub struct Feedback {
    events: Arc<Events>,
    /// The SSRC of what we send: reports about others are not about us. `None` when we send nothing.
    ssrc: Option<u32>,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
    next_pulse: Option<Instant>,
}

impl Feedback {
    /// Tells `events` what concerns the stream `ssrc`.
    pub fn new(events: Arc<Events>, ssrc: Option<u32>) -> Self {
        Self {
            events,
            ssrc,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            next_pulse: Some(Instant::now()),
        }
    }

    fn look_at(&self, packet: &dyn rtcp::Packet) {
        let any = packet.as_any();
        if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>() {
            if self.ssrc.is_some() {
                self.events.tell(PeerEvent::KeyFrameWanted);
            }
        } else if let Some(estimate) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            if self.ssrc.is_some() && estimate.bitrate.is_finite() && estimate.bitrate > 0.0 {
                self.events.tell(PeerEvent::Estimate { bits_per_s: estimate.bitrate as u64 });
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.look_at_reports(&report.reports);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.look_at_reports(&report.reports);
        } else if any.is::<Goodbye>() {
            self.events.said_goodbye();
        }
    }

    fn look_at_reports(&self, reports: &[ReceptionReport]) {
        for report in reports.iter().filter(|report| Some(report.ssrc) == self.ssrc) {
            self.events.tell(PeerEvent::Loss { fraction: f32::from(report.fraction_lost) / 256.0 });
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            packets.iter().for_each(|packet| self.look_at(packet.as_ref()));
        }
        self.inbound.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.outbound.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.next_pulse.is_none_or(|at| at <= now) {
            self.events.pulse();
            self.next_pulse = Some(now + PULSE);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.next_pulse
    }
}

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
