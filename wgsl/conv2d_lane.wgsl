// 3x3 (or strided 1x1) convolution for CPU adapters, as an implicit matrix product over taps:
// y[n,oy,ox,o] = act(sum_{tap,c} up(x)[n, oy*s+dy, ox*s+dx, c]*W[o,c,tap] + bias + time + residual).
// Behind a doubling, up(x) is not built: each of four phases of the result is a 2x2 convolution of x.
// x [N,H,W,C1], x2 [N,H,W,C2] in quads; weight in panels [O/(4*quads*lanes)][taps][C/4][4*quads][lanes][4].
// One subgroup computes {{ rows_per_lane * lanes }} pixels x {{ 4 * quads * lanes }} channels in registers, without workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/lane.wgsl" as lane %}
{% import "shared/pixel.wgsl" as pixel %}
{% include "shared/product.wgsl" %}
{{ pixel.define(taps, has_upsample, has_phases) }}
{% set weight_taps = 16 if has_phases else taps %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let asked = group.x + group.z * p.row_groups;
{% if has_phases %}
    // Groups past the last phase have no rows.
    let row_group = select(asked % p.phase_groups, p.phase_groups, asked / p.phase_groups > 3u);
    phase = min(asked / p.phase_groups, 3u);
{% else %}
    let row_group = asked;
{% endif %}
    let first_row = row_group * {{ rows_per_lane * lanes }}u;
    if (first_row >= p.m) {
        return;
    }
    let k_quads = p.quads1 + p.quads2;
    let panel = group.y * k_quads * {{ weight_taps * 4 * quads * lanes }}u;
{% for r in range(rows_per_lane) %}
    let corner{{ r }} = output_pixel(min(first_row + {{ r * lanes }}u + lane, p.m - 1u));
{% endfor %}
{{ lane.declare(rows_per_lane * lanes, quads) }}
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
        let first = panel + {{ "(4u * phase + tap)" if has_phases else "tap" }} * k_quads * {{ 4 * quads * lanes }}u;
{% for r in range(rows_per_lane) %}
        let source{{ r }} = source_pixel(corner{{ r }}, tap);
        let inside{{ r }} = f32(source{{ r }} >= 0);
        let pixel{{ r }} = u32(max(source{{ r }}, 0));
{% endfor %}
        for (var q = 0u; q < p.quads1; q++) {
            let at = first + q * {{ 4 * quads * lanes }}u;
{% for r in range(rows_per_lane) %}
            let a{{ r }} = inside{{ r }} * {{ io.load(x_dtype, "x", "pixel" ~ r ~ " * p.quads1 + q") }};
{% endfor %}
{{ lane.multiply(rows_per_lane, lanes, quads, w_dtype) }}
        }
{% if has_x2 %}
        for (var q = 0u; q < p.quads2; q++) {
            let at = first + (p.quads1 + q) * {{ 4 * quads * lanes }}u;
{% for r in range(rows_per_lane) %}
            let a{{ r }} = inside{{ r }} * {{ io.load(x_dtype, "x2", "pixel" ~ r ~ " * p.quads2 + q") }};
{% endfor %}
{{ lane.multiply(rows_per_lane, lanes, quads, w_dtype) }}
        }
{% endif %}
    }
    let quad = (group.y * {{ lanes }}u + lane) * {{ quads }}u;
{{ lane.store(rows_per_lane * lanes, quads) }}
}
