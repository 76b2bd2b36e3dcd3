{#- Include: the operands of a matrix product or convolution, and what follows the sum: bias, time
    embedding, residual, activation or gate, store. Needs the defines of `Matmul::variant`. -#}
{% import "shared/io.wgsl" as io %}
{% import "shared/activation.wgsl" as act %}
struct Params {
    m: u32,         // rows
    positions: u32, // rows of a batch row
    out_quads: u32, // quads of columns
    out_c: u32,     // channels of the result: half the columns where the others are gates
    quads1: u32,
    quads2: u32,
    row_groups: u32,
{% if has_windows %}
    in_h: u32,
    in_w: u32,
{% endif %}
{% if has_phases %}
    phase_groups: u32, // row groups of one phase; m and positions are those of the picture before its doubling
{% elif has_windows %}
    virtual_h: u32, // after upsampling
    virtual_w: u32,
    out_w: u32,
    stride: u32,
    pad: u32, // lines and columns of zeros before the first
{% endif %}
{% if has_shortcut %}
    shortcut_quads1: u32,
    shortcut_quads2: u32,
{% endif %}
{% if norm == "layer" %}
    eps: f32,
    padded_quads: u32, // quads of columns with the padding of the last tile
{% elif norm == "group" %}
    eps: f32,
    groups: u32,
    group_c: u32,      // channels of a group
    norm_positions: u32, // pixels of a batch row of the input
{% endif %}
{% if has_strip %}
    first_line: u32, // line of pixels that the rows begin with
    y_at: u32,       // quads before them in the result
{% endif %}
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
{% if has_x2 %}
@group(0) @binding(1) var<storage, read> x2: {{ io.quads(x_dtype) }};
{% endif %}
@group(0) @binding(2) var<storage, read> weight: {{ "array<vec4<u32>>" if w_dtype == "f16" and has_pairs is defined else io.quads(w_dtype) }};
@group(0) @binding(3) var<storage, read_write> y: {{ io.quads(out_dtype) }};
{% if has_bias %}
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
{% endif %}
{% if has_time %}
@group(0) @binding(5) var<storage, read> time_embedding: {{ io.quads(time_dtype) }};
{% endif %}
{% if has_residual %}
@group(0) @binding(6) var<storage, read> residual: {{ io.quads(residual_dtype) }};
{% endif %}
{% if has_shortcut %}
@group(0) @binding(7) var<storage, read> shortcut: {{ io.quads(x_dtype) }};
{% endif %}
{% if has_shortcut2 %}
@group(0) @binding(8) var<storage, read> shortcut2: {{ io.quads(x_dtype) }};
{% endif %}

{% if has_phases %}
// Which quarter of the doubled picture: 2*(y % 2) + x % 2. The same in a whole workgroup.
var<private> phase: u32;
// The row of the result that a row of the picture before its doubling leads to.
fn result_row(row: u32) -> u32 {
    let at = row % p.positions;
    let y = row / p.positions * p.in_h * 2u + at / p.in_w * 2u + phase / 2u;
    return y * p.in_w * 2u + at % p.in_w * 2u + phase % 2u;
}
{% else %}
fn result_row(row: u32) -> u32 {
    return row;
}
{% endif %}

// bias_at: to be read once for all rows of a tile.
{{ act.define("gelu" if is_gated else activation) }}
fn bias_at(quad: u32) -> vec4<f32> {
{% if has_bias %}
    return bias[quad];
{% else %}
    return vec4<f32>(0.0);
{% endif %}
}
{% if w_dtype == "i8" %}
// Of the columns of a quad: words before the weights.
fn scale_at(quad: u32) -> vec4<f32> {
    let at = quad * 4u;
    return bitcast<vec4<f32>>(vec4<u32>(weight[at], weight[at + 1u], weight[at + 2u], weight[at + 3u]));
}
{% endif %}
{% if norm == "layer" %}
// What the mean of a row adds to its sums: behind the bias.
fn column_sums_at(quad: u32) -> vec4<f32> {
    return bias[p.padded_quads + quad];
}
{% endif %}
// put: one quad of one row, which must be inside, with its bias; `before` is first_quad of the row. finish: the same
// where it is inside; returns what is stored, zeros outside.
{% if is_gated %}
// A quad of columns holds two values and their gates: half a quad of the result.
fn first_quad(row: u32) -> u32 {
    return row * (p.out_quads / 2u);
}
fn put(row: u32, before: u32, quad: u32, sum: vec4<f32>) {
    let v = sum.xy * activate(sum.zwzw).xy;
    let at = before + quad / 2u;
{% if out_dtype == "f16" %}
    y[at][quad % 2u] = pack2x16float(v);
{% else %}
    y[at][quad % 2u * 2u] = v.x;
    y[at][quad % 2u * 2u + 1u] = v.y;
{% endif %}
}
fn finish(row: u32, quad: u32, sum: vec4<f32>) {
    if (row < p.m && quad < p.out_quads) {
        put(row, first_quad(row), quad, sum);
    }
}
{% else %}
fn first_quad(row: u32) -> u32 {
    return result_row(row) * p.out_quads;
}
fn put(row: u32, before: u32, quad: u32, sum: vec4<f32>) -> vec4<f32> {
    var v = sum;
    let at = before + quad;
{% if has_time %}
    v += {{ io.load(time_dtype, "time_embedding", "(row / p.positions) * p.out_quads + quad") }};
{% endif %}
{% if has_residual %}
    v += {{ io.load(residual_dtype, "residual", "at") }};
{% endif %}
    v = {{ act.apply(activation, "v") }};
{% if has_padding %}
    // Padding channels stay zero whatever was added.
    let channel = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    v = select(vec4<f32>(0.0), v, channel < vec4<u32>(p.out_c));
{% endif %}
    {{ io.store(out_dtype, "y", "at + p.y_at" if has_strip else "at", "v") }}
    return v;
}
fn finish(row: u32, quad: u32, sum: vec4<f32>) -> vec4<f32> {
    if (row < p.m && quad < p.out_quads) {
        return put(row, first_quad(row), quad, sum);
    }
    return vec4<f32>(0.0);
}
{% endif %}
