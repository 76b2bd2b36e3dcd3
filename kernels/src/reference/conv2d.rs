//! Convolution in f64.

use crate::tensor::Shape;

/// Arguments of [`conv2d`], all unpadded NHWC and OIHW.
#[derive(Debug, Clone)]
pub struct Conv2dInput<'a> {
    /// Input `[N,H,W,C]`, a concatenation already joined.
    pub x: &'a [f64],
    /// Its shape.
    pub shape: Shape,
    /// Weight `[O,C,k,k]`.
    pub weight: &'a [f64],
    /// Output channels.
    pub out_c: u32,
    /// 1 or 3.
    pub kernel: u32,
    /// 1 or 2.
    pub stride: u32,
    /// Whether zeros are put below and to the right only.
    pub pads_behind: bool,
    /// Nearest-neighbour size before the convolution.
    pub upsample: Option<[u32; 2]>,
}

/// `(conv(up(x)), Σ|terms|, shape)`: the sums without bias, and their magnitudes for error bounds.
pub fn conv2d(input: &Conv2dInput<'_>) -> (Vec<f64>, Vec<f64>, Shape) {
    let s = input.shape;
    let [vh, vw] = input.upsample.unwrap_or([s.h, s.w]);
    let length = |size: u32| if input.pads_behind { size / 2 } else { size.div_ceil(input.stride) };
    let out = Shape::new(s.n, length(vh), length(vw), input.out_c);
    let (mut y, mut magnitude) = (Vec::new(), Vec::new());
    for n in 0..out.n {
        for oy in 0..out.h {
            for ox in 0..out.w {
                for o in 0..out.c {
                    let (sum, size) = window(input, [vh, vw], [n, oy, ox, o]);
                    y.push(sum);
                    magnitude.push(size);
                }
            }
        }
    }
    (y, magnitude, out)
}

/// One output value and the sum of its terms' magnitudes.
fn window(input: &Conv2dInput<'_>, [vh, vw]: [u32; 2], [n, oy, ox, o]: [u32; 4]) -> (f64, f64) {
    let (s, k) = (input.shape, input.kernel);
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for tap in 0..k * k {
        let (dy, dx) = (tap / k, tap % k);
        let before = if input.pads_behind { 0 } else { k / 2 };
        let (iy, ix) =
            ((oy * input.stride + dy).checked_sub(before), (ox * input.stride + dx).checked_sub(before));
        let (Some(iy), Some(ix)) = (iy.filter(|&v| v < vh), ix.filter(|&v| v < vw)) else { continue };
        let (sy, sx) = (iy * s.h / vh, ix * s.w / vw);
        let row = (((n * s.h + sy) * s.w + sx) * s.c) as usize;
        for c in 0..s.c {
            let w = input.weight[(((o * s.c + c) * k + dy) * k + dx) as usize];
            let term = input.x[row + c as usize] * w;
            sum += term;
            magnitude += term.abs();
        }
    }
    (sum, magnitude)
}
