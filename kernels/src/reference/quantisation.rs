//! Weights as bytes, written out: see `DType::I8`.

/// What is left of weights whose reductions follow one another, each `[O, row]` with its row, stored as whole numbers
/// in −127..=127 times one scale of each output: `scale = max|w| / 127`, `w ≈ scale·round(w / scale)`.
///
/// The scale and the quotient are f32, as stored; ties go to the even number.
pub fn int8(parts: &[(&[f64], usize)]) -> Vec<Vec<f64>> {
    let outputs = parts.first().map_or(0, |(values, row)| values.len() / row);
    let mut kept: Vec<Vec<f64>> = parts.iter().map(|_| Vec::new()).collect();
    for output in 0..outputs {
        let rows = parts.iter().map(|(values, row)| &values[output * row..][..*row]);
        let largest = rows.clone().flatten().fold(0.0, |largest: f64, v| largest.max(v.abs()));
        let scale = largest as f32 / 127.0;
        for (kept, row) in kept.iter_mut().zip(rows) {
            let whole = |v: f64| (v as f32 / scale).round_ties_even().clamp(-127.0, 127.0);
            kept.extend(
                row.iter().map(|&v| if scale == 0.0 { 0.0 } else { f64::from(whole(v)) * f64::from(scale) }),
            );
        }
    }
    kept
}
