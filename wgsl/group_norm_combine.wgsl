// Second of three parts of group normalisation: from the channels' chunks to each group's mean
// and each channel's factor.
//
//   mean = sum n_i m_i / sum n_i      var = (sum s_i + sum n_i (m_i - mean)^2) / sum n_i
//   factor[c] = weight[c] / sqrt(var + eps)
//
// over the parts i (chunk, channel) of a group with n_i positions, mean m_i and sum of squared
// deviations s_i: Chan's combination done for all parts at once, in two passes, in f32. The
// second pass also sums the deviations, which takes back the rounding of the first mean.
//
// parts: [N, chunks, 2, C] f32   weight: [C padded] f32
// factors: [N, 1, 2, C] f32: means, then factors; zeros in the padding
// A workgroup owns a group of a batch row.

struct Params {
    count: u32,     // N * groups
    groups: u32,
    group_c: u32,   // channels in a group
    c: u32,
    pitch: u32,     // channels with padding
    positions: u32,
    span: u32,      // positions in a chunk
    chunks: u32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> factors: array<f32>;

{% set tier = "tile" %}
{% include "shared/total.wgsl" %}

// Positions in a chunk.
fn positions_in(chunk: u32) -> f32 {
    return f32(min(p.span, p.positions - chunk * p.span));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let owned = id.x;
    if (owned >= p.count) {
        return;
    }
    let n = owned / p.groups;
    let c0 = owned % p.groups * p.group_c;
    let base = n * p.chunks * 2u * p.pitch + c0;
    let items = p.chunks * p.group_c;
    let size = f32(p.group_c) * f32(p.positions);
    let shift = parts[base];
    var sum = 0.0;
    for (var i = t; i < items; i += STRIDE) {
        let chunk = i / p.group_c;
        let ix = base + chunk * 2u * p.pitch + i % p.group_c;
        sum += positions_in(chunk) * (parts[ix] - shift);
    }
    let mean = shift + total(t, vec2<f32>(sum, 0.0)).x / size;
    var sums = vec2<f32>(0.0);
    for (var i = t; i < items; i += STRIDE) {
        let chunk = i / p.group_c;
        let ix = base + chunk * 2u * p.pitch + i % p.group_c;
        let d = parts[ix] - mean;
        let n_d = positions_in(chunk) * d;
        sums += vec2<f32>(n_d, n_d * d + parts[ix + p.pitch]);
    }
    sums = total(t, sums) / size;
    let variance = max(sums.y - sums.x * sums.x, 0.0);
    let scale = 1.0 / sqrt(variance + p.eps);
    let out = n * 2u * p.pitch;
    for (var i = t; i < p.group_c; i += STRIDE) {
        factors[out + c0 + i] = mean + sums.x;
        factors[out + p.pitch + c0 + i] = scale * weight[c0 + i];
    }
    if (c0 + p.group_c == p.c && t == 0u) {
        for (var c = p.c; c < p.pitch; c++) {
            factors[out + c] = 0.0;
            factors[out + p.pitch + c] = 0.0;
        }
    }
}
