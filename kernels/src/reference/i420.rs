//! Pictures as planes for video encoders in f64.

/// RGBA8 words `[H,W]`, red in the low byte, as bytes of Y `[H,W]`, U and V `[H/2,W/2]`: BT.601 in studio
/// range with integer factors in 1/256, chroma of the mean of 2×2 pixels, rounded half up.
pub fn i420(pixels: &[u32], width: usize) -> Vec<u8> {
    let channels = |word: u32| {
        let [r, g, b, _] = word.to_le_bytes();
        [r, g, b].map(f64::from)
    };
    let product = |[r, g, b]: [f64; 3], [x, y, z]: [f64; 3]| (r * x + g * y + b * z) / 256.0;
    let byte = |v: f64| (v + 0.5).floor() as u8;
    let mut bytes: Vec<u8> =
        pixels.iter().map(|&word| byte(16.0 + product(channels(word), [66.0, 129.0, 25.0]))).collect();
    for factors in [[-38.0, -74.0, 112.0], [112.0, -94.0, -18.0]] {
        for rows in pixels.chunks_exact(2 * width) {
            for x in (0..width).step_by(2) {
                let four =
                    [x, x + 1, width + x, width + x + 1].map(|ix| product(channels(rows[ix]), factors));
                bytes.push(byte(128.0 + four.iter().sum::<f64>() / 4.0));
            }
        }
    }
    bytes
}
