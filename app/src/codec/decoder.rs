//! Access units to planes.

use anyhow::{Context, Result};
use dreamglass_engine::{Planes, Size};
use openh264::OpenH264API;
use openh264::decoder::{DecoderConfig, Flush};
use openh264::formats::YUVSource;

/// A live decoder: a unit in, a picture out.
pub struct Decoder(openh264::decoder::Decoder);

impl Decoder {
    /// A decoder that waits for a key frame.
    pub fn new() -> Result<Self> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let inner = openh264::decoder::Decoder::with_api_config(OpenH264API::from_source(), config);
        Ok(Self(inner.context("cannot open the H.264 decoder")?))
    }
    /// Decodes a unit; none where it shows nothing. After an error the decoder waits for a key frame.
    pub fn decode(&mut self, unit: &[u8]) -> Result<Option<Planes>> {
        let Some(decoded) = self.0.decode(unit).context("a coded picture cannot be read")? else {
            return Ok(None);
        };
        let (width, height) = decoded.dimensions();
        let (w, h) = (width & !1, height & !1);
        let size = Size::new(u32::try_from(w)?, u32::try_from(h)?);
        let (y_stride, u_stride, v_stride) = decoded.strides();
        let mut bytes = Vec::with_capacity(w * h * 3 / 2);
        let planes = [
            (decoded.y(), y_stride, w, h),
            (decoded.u(), u_stride, w / 2, h / 2),
            (decoded.v(), v_stride, w / 2, h / 2),
        ];
        for (plane, stride, width, height) in planes {
            for row in plane.chunks(stride.max(1)).take(height) {
                bytes.extend_from_slice(row.get(..width).context("a decoded row is too short")?);
            }
        }
        Ok(Some(Planes::new(size, bytes)?))
    }
}
