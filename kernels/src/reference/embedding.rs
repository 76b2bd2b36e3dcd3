//! Token and position embeddings in f64.

/// `table[ids[n,t]] + positions[t]`: ids `[N,T]`, table `[V,C]`, positions `[P,C]` or empty, result
/// `[N,T,C]`. An id past the table reads its last row.
pub fn embedding(ids: &[u32], tokens: usize, table: &[f64], positions: &[f64], c: usize) -> Vec<f64> {
    let last = table.len() / c - 1;
    let mut y = Vec::with_capacity(ids.len() * c);
    for (ix, &id) in ids.iter().enumerate() {
        let row = &table[last.min(id as usize) * c..][..c];
        let place = positions.get(ix % tokens * c..).and_then(|p| p.get(..c));
        y.extend((0..c).map(|i| row[i] + place.map_or(0.0, |p| p[i])));
    }
    y
}
