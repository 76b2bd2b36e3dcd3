//! H.264 by openh264: pictures to access units for viewers, and back for publishers.

mod decoder;
mod encoder;
pub mod rate;
pub mod video_in;
pub mod video_out;

use bytes::Bytes;

/// One coded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Annex B: NAL units behind start codes; parameter sets before every key frame.
    pub data: Bytes,
    /// When its frame was taken, in 1/90000 s since the stream's epoch, modulo 2³².
    pub rtp_time: u32,
    /// Whether decoding can begin here.
    pub is_key: bool,
}
