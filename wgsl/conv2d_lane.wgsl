// 3x3 (or strided 1x1) convolution for CPU adapters, as an implicit matrix product over taps:
// y[n,oy,ox,o] = act(sum_{tap,c} up(x)[n, oy*s+dy, ox*s+dx, c]*W[o,c,tap] + bias + time + shortcut + residual).
// Behind a doubling, up(x) is not built: each of four phases of the result is a 2x2 convolution of x.
// x [N,H,W,C1], x2 [N,H,W,C2] in quads; weight in panels [O/(4*quads*lanes)][taps][C/4][2*quads][lanes][2][4], with
// the shortcut's [C'/4][2*quads][lanes][2][4] behind the taps of each panel.
// One subgroup computes {{ rows_per_lane * lanes }} pixels x {{ 4 * quads * lanes }} channels in registers, without workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/lane.wgsl" as lane %}
{% import "shared/pixel.wgsl" as pixel %}
{% set has_pairs = true %}
{% include "shared/product.wgsl" %}
{{ pixel.define(taps, has_upsample, has_phases, has_strip) }}
{% set weight_taps = 16 if has_phases else taps %}
{% set weight_row = "(4u * phase + tap)" if has_phases else "tap" %}
{% set step = 4 * quads * lanes %}

{#- All quads of a source, whose row is `row ~ r`; `start` is the weight quad of its first. -#}
{% macro gather(buf, count, row, inside, start) %}
        for (var q = 0u; q < p.{{ count }}; q++) {
            let at = {{ start }} + q * {{ step }}u;
{% for r in range(rows_per_lane) %}
            let a{{ r }} = {{ "inside" ~ r ~ " * " if inside else "" }}{{ io.load(x_dtype, buf, row ~ r ~ " * p." ~ count ~ " + q") }};
{% endfor %}
{{ lane.multiply(rows_per_lane, lanes, quads, w_dtype) }}
        }
{% endmacro %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let first_row = locate(group.x + group.z * p.row_groups) * {{ rows_per_lane * lanes }}u;
    if (first_row >= p.m) {
        return;
    }
    let k_quads = p.quads1 + p.quads2;
{% if has_shortcut %}
    let panel_quads = {{ weight_taps }}u * k_quads + p.shortcut_quads1 + p.shortcut_quads2;
{% else %}
    let panel_quads = {{ weight_taps }}u * k_quads;
{% endif %}
    let panel = {{ lane.panel(lanes, quads, w_dtype, "panel_quads") }};
{% for r in range(rows_per_lane) %}
    let row{{ r }} = min(first_row + {{ r * lanes }}u + lane, p.m - 1u);
    let corner{{ r }} = output_pixel(row{{ r }});
{% endfor %}
{{ lane.declare(rows_per_lane * lanes, quads) }}
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
        let first = panel + {{ weight_row }} * k_quads * {{ step }}u;
{% for r in range(rows_per_lane) %}
        let source{{ r }} = source_pixel(corner{{ r }}, tap);
        let inside{{ r }} = f32(source{{ r }} >= 0);
        let pixel{{ r }} = u32(max(source{{ r }}, 0));
{% endfor %}
{{ gather("x", "quads1", "pixel", true, "first") }}
{% if has_x2 %}
{{ gather("x2", "quads2", "pixel", true, "first + p.quads1 * " ~ step ~ "u") }}
{% endif %}
    }
{% if has_shortcut %}
    let shortcut_first = panel + {{ taps }}u * k_quads * {{ step }}u;
{{ gather("shortcut", "shortcut_quads1", "row", false, "shortcut_first") }}
{% endif %}
{% if has_shortcut2 %}
{{ gather("shortcut2", "shortcut_quads2", "row", false, "shortcut_first + p.shortcut_quads1 * " ~ step ~ "u") }}
{% endif %}
    let quad = (group.y * {{ lanes }}u + lane) * {{ quads }}u;
{{ lane.store(rows_per_lane, lanes, quads, cuts_quads, w_dtype, norm) }}
}
