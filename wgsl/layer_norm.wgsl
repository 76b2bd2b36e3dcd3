{% import "shared/io.wgsl" as io %}
// Layer normalisation.
//
//   y[r, c] = (x[r, c] - mean_r) / sqrt(var_r + eps) * weight[c] + bias[c]
//
// x, y: [rows, C] {{ x_dtype }}   weight, bias: [C padded with zeros] f32
// Statistics in two passes in f32; the second also sums the deviations, which takes back the
// rounding of the first mean (corrected two-pass of Chan, Golub and LeVeque, 1983).
// {% if tier == "lane" %}An invocation owns a row.{% else %}A workgroup owns a row.{% endif %}

struct Params {
    rows: u32,
    c: u32,
    quads: u32, // quads in a row
    width: u32, // {% if tier == "lane" %}invocations{% else %}workgroups{% endif %} in a row of the grid
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: {{ io.quads(x_dtype) }};

// Ones where quad `q` has channels, zeros in its padding.
fn present(q: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<u32>(0u, 1u, 2u, 3u) + 4u * q < vec4<u32>(p.c));
}

{% include "shared/total.wgsl" %}

@compute @workgroup_size(64)
{% if tier == "lane" %}
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = 0u;
{% else %}
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
{% endif %}
    let row = id.y * p.width + id.x;
    if (row >= p.rows) {
        return;
    }
    let start = row * p.quads;
    // Sums start from the row's first value: a mean far from zero costs no digits.
    let first = {{ io.load(x_dtype, "x", "start") }};
    let shift = first.x;
    var sum = 0.0;
    for (var q = t; q < p.quads; q += STRIDE) {
        let v = {{ io.load(x_dtype, "x", "start + q") }};
        sum += dot(v - shift, present(q));
    }
    let c = f32(p.c);
    let mean = shift + total(t, vec2<f32>(sum, 0.0)).x / c;
    var sums = vec2<f32>(0.0);
    for (var q = t; q < p.quads; q += STRIDE) {
        let v = {{ io.load(x_dtype, "x", "start + q") }};
        let d = (v - mean) * present(q);
        sums += vec2<f32>(dot(d, vec4<f32>(1.0)), dot(d, d));
    }
    sums = total(t, sums) / c;
    let variance = max(sums.y - sums.x * sums.x, 0.0);
    let centre = mean + sums.x;
    let scale = 1.0 / sqrt(variance + p.eps);
    for (var q = t; q < p.quads; q += STRIDE) {
        let v = {{ io.load(x_dtype, "x", "start + q") }};
        let value = (v - centre) * scale * weight[q] + bias[q];
        {{ io.store(x_dtype, "y", "start + q", "value") }}
    }
}
