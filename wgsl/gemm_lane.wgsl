// Matrix product for CPU adapters: y[m][n] = act(sum_k norm(x)[m][k]*W[n][k] + bias + residual).
// x [M, K1] and x2 [M, K2] in quads; weight in panels [N/(4*quads*lanes)][K/4][2*quads][lanes][2][4].
// One subgroup computes {{ rows_per_lane * lanes }} rows x {{ 4 * quads * lanes }} columns in registers, without workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/lane.wgsl" as lane %}
{% set has_pairs = true %}
{% include "shared/product.wgsl" %}
{% set step = 4 * quads * lanes %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let first_row = (group.x + group.z * p.row_groups) * {{ rows_per_lane * lanes }}u;
    if (first_row >= p.m) {
        return;
    }
    let k_quads = p.quads1 + p.quads2;
    let panel = {{ lane.panel(lanes, quads, w_dtype, "k_quads") }};
{% for r in range(rows_per_lane) %}
    let row{{ r }} = min(first_row + {{ r * lanes }}u + lane, p.m - 1u);
{% endfor %}
{{ lane.declare(rows_per_lane * lanes, quads) }}
{% if norm == "layer" %}
    // Sums start from the row's first value: a mean far from zero costs no digits.
{% for r in range(rows_per_lane) %}
    let first{{ r }} = {{ io.load(x_dtype, "x", "row" ~ r ~ " * p.quads1") }};
    let shift{{ r }} = first{{ r }}.x;
    var sum{{ r }} = vec4<f32>(0.0);
    var squares{{ r }} = vec4<f32>(0.0);
{% endfor %}
{% endif %}
    for (var q = 0u; q < p.quads1; q++) {
        let at = panel + q * {{ step }}u;
{% for r in range(rows_per_lane) %}
        let a{{ r }} = {{ io.load(x_dtype, "x", "row" ~ r ~ " * p.quads1 + q") }}{{ " - vec4<f32>(shift" ~ r ~ ")" if norm == "layer" else "" }};
{% if norm == "layer" %}
        sum{{ r }} += a{{ r }};
        squares{{ r }} = fma(a{{ r }}, a{{ r }}, squares{{ r }});
{% endif %}
{% endfor %}
{{ lane.multiply(rows_per_lane, lanes, quads, w_dtype) }}
    }
{% if has_x2 %}
    for (var q = 0u; q < p.quads2; q++) {
        let at = panel + (p.quads1 + q) * {{ step }}u;
{% for r in range(rows_per_lane) %}
        let a{{ r }} = {{ io.load(x_dtype, "x2", "row" ~ r ~ " * p.quads2 + q") }};
{% endfor %}
{{ lane.multiply(rows_per_lane, lanes, quads, w_dtype) }}
    }
{% endif %}
{% if norm == "layer" %}
{% for r in range(rows_per_lane) %}
    var mean{{ r }} = dot(sum{{ r }}, vec4<f32>(1.0)) / f32(p.quads1 * 4u);
    let variance{{ r }} = dot(squares{{ r }}, vec4<f32>(1.0)) / f32(p.quads1 * 4u) - mean{{ r }} * mean{{ r }};
    var factor{{ r }} = 1.0 / sqrt(max(variance{{ r }}, 0.0) + p.eps);
{% endfor %}
{% endif %}
    let quad = (group.y * {{ lanes }}u + lane) * {{ quads }}u;
{{ lane.store(rows_per_lane, lanes, quads, cuts_quads, w_dtype, norm) }}
}
