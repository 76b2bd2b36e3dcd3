//! Seeded weights, the same values as weights.py makes, bit for bit. README.md defines them.

/// Scale of the convolution that makes a picture, so that pictures stay inside [-1, 1].
const PICTURE_GAIN: f64 = 0.2;

/// FNV-1a, 64 bits, of the name's UTF-8 bytes.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

fn at(seed: u64, index: u64) -> f32 {
    let z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Value `index` of the stream `name`: uniform in [-1, 1), a multiple of 2^-23.
pub fn value(name: &str, index: u64) -> f32 {
    at(seed(name), index)
}

/// Offset and factor: a weight is `(offset + factor * value) as f32`, computed in f64.
fn affine(name: &str, shape: &[usize]) -> (f64, f64) {
    let picture = matches!(shape.len(), 1 | 4) && shape[0] == 3;
    if shape.len() >= 2 {
        if name.contains("token_embedding") || name.contains("position_embedding") {
            return (0.0, 0.5);
        }
        let fan_in: usize = shape[1..].iter().product();
        let factor = (3.0 / fan_in as f64).sqrt();
        return (0.0, if picture { factor * PICTURE_GAIN } else { factor });
    }
    if name.ends_with(".bias") {
        return (if picture { 0.5 } else { 0.0 }, 0.1);
    }
    assert!(name.ends_with(".weight"), "no rule for `{name}`");
    (1.0, 0.1)
}

/// The weight `name`, row-major.
pub fn tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    let (offset, factor) = affine(name, shape);
    let seed = seed(name);
    let count = shape.iter().product::<usize>() as u64;
    (0..count).map(|i| (offset + factor * f64::from(at(seed, i))) as f32).collect()
}

/// An input of unit variance.
pub fn unit(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = seed(name);
    let count = shape.iter().product::<usize>() as u64;
    (0..count).map(|i| (3.0_f64.sqrt() * f64::from(at(seed, i))) as f32).collect()
}
