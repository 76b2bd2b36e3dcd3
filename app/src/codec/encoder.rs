//! Planes to access units.

use std::ffi::c_void;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dreamglass_engine::Planes;
use openh264::encoder::{
    BitRate, Complexity, EncoderConfig, FrameRate, FrameType, Profile, RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};
use openh264_sys2::{
    ENCODER_OPTION_BITRATE, ENCODER_OPTION_FRAME_RATE, ENCODER_OPTION_MAX_BITRATE,
    ENCODER_OPTION_TRACE_LEVEL, SBitrateInfo, SPATIAL_LAYER_0, SPATIAL_LAYER_ALL, WELS_LOG_QUIET,
};

/// A live encoder: constrained baseline, one slice, no delay.
pub struct Encoder {
    inner: openh264::encoder::Encoder,
    has_begun: bool,
    /// Bits per second that it takes as a target; it begins with its first target.
    ceiling: u32,
    buffer: Vec<u8>,
}

impl Encoder {
    /// An encoder for about `bits_per_s` at `fps` frames per second.
    pub fn new(bits_per_s: u32, fps: f32) -> Result<Self> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .usage_type(UsageType::CameraVideoRealTime)
            // A second slice buys nothing at these sizes, and the engine needs the other cores.
            .num_threads(1)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(bits_per_s))
            .max_frame_rate(FrameRate::from_hz(fps))
            // Stylised noise is no change of scene, and every picture is to be seen.
            .scene_change_detect(false)
            .skip_frames(false)
            .vui(VuiConfig::bt601());
        let inner = openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), config)
            .context("cannot open the H.264 encoder")?;
        let mut encoder = Self { inner, has_begun: false, ceiling: bits_per_s, buffer: Vec::new() };
        encoder.silence();
        Ok(encoder)
    }
    /// It would warn on standard error that no frames are skipped, which is what is wanted.
    fn silence(&mut self) {
        let mut level = WELS_LOG_QUIET;
        // SAFETY: the option takes a pointer to an int, which lives beyond the call. What it answers does
        // not matter: at worst the warning is seen.
        unsafe {
            self.inner.raw_api().set_option(ENCODER_OPTION_TRACE_LEVEL, (&raw mut level).cast::<c_void>());
        }
    }
    /// Aims at `bits_per_s` and `fps` from now on, without a key frame.
    pub fn aim(&mut self, bits_per_s: u32, fps: f32) -> Result<()> {
        // The encoder has no state to change before its first picture tells the size.
        if !self.has_begun {
            return Ok(());
        }
        let as_int = |bits_per_s: u32| i32::try_from(bits_per_s).unwrap_or(i32::MAX);
        // A ceiling at the target would keep it well below.
        let needs_room = bits_per_s >= self.ceiling;
        let ceiling = bits_per_s.saturating_mul(2);
        let mut most = SBitrateInfo { iLayer: SPATIAL_LAYER_0, iBitrate: as_int(ceiling) };
        let mut target = SBitrateInfo { iLayer: SPATIAL_LAYER_ALL, iBitrate: as_int(bits_per_s) };
        let mut fps = fps;
        // SAFETY: the options take a pointer to these very types, which live beyond the calls, and the
        // encoder is initialised.
        let results = unsafe {
            let api = self.inner.raw_api();
            [
                api.set_option(ENCODER_OPTION_FRAME_RATE, (&raw mut fps).cast::<c_void>()),
                match needs_room {
                    true => api.set_option(ENCODER_OPTION_MAX_BITRATE, (&raw mut most).cast::<c_void>()),
                    false => 0,
                },
                api.set_option(ENCODER_OPTION_BITRATE, (&raw mut target).cast::<c_void>()),
            ]
        };
        ensure!(results == [0; 3], "the encoder refused {bits_per_s} bit/s at {fps} frames/s: {results:?}");
        if needs_room {
            self.ceiling = ceiling;
        }
        Ok(())
    }
    /// Codes a picture that was taken `at` since the epoch; the bytes are valid until the next call.
    /// True when it is a key frame.
    pub fn encode(&mut self, planes: &Planes, at: Duration, wants_key: bool) -> Result<(&[u8], bool)> {
        if wants_key && self.has_begun {
            self.inner.force_intra_frame();
        }
        let (width, height) = (planes.size().width as usize, planes.size().height as usize);
        let [y, u, v] = planes.planes();
        let slices = YUVSlices::new((y, u, v), (width, height), (width, width / 2, width / 2));
        let at = Timestamp::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let coded = self.inner.encode_at(&slices, at).context("the H.264 encoder failed")?;
        let is_key = matches!(coded.frame_type(), FrameType::IDR | FrameType::I);
        self.buffer.clear();
        coded.write_vec(&mut self.buffer);
        self.has_begun = true;
        Ok((&self.buffer, is_key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use dreamglass_engine::{Picture, Size};

    use super::*;

    /// Faint noise that differs from picture to picture: it fills any rate, and is the first to go.
    fn noise(state: &mut u32) -> Planes {
        let size = Size::new(320, 240);
        let bytes = (0..320 * 240).flat_map(|_| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [112 + (*state >> 27) as u8; 4]
        });
        Planes::from_picture(&Picture::new(size, bytes.collect()).unwrap()).unwrap()
    }

    #[test]
    fn rates_go_up_and_down() {
        let mut encoder = Encoder::new(300_000, 30.0).unwrap();
        let (mut state, mut bytes) = (7, [0; 3]);
        for (part, target) in [300_000, 3_000_000, 300_000].into_iter().enumerate() {
            for n in 0..60_u32 {
                encoder.aim(target, 30.0).unwrap();
                let at = Duration::from_millis(33) * (60 * part as u32 + n);
                let (data, _) = encoder.encode(&noise(&mut state), at, false).unwrap();
                // The first second is for getting there.
                bytes[part] += if n >= 30 { data.len() } else { 0 };
            }
        }
        assert!(bytes[1] > 3 * bytes[0] && bytes[2] * 3 < bytes[1], "{bytes:?}");
    }
}
