// Matrix product, or 3x3 (or strided 1x1) convolution as one, for GPUs with cooperative matrices:
// y[m][n] = act(sum_k norm(x)[m][k]*W[n][k] + bias + time + shortcut + residual), convolutions over taps as conv2d_tile.
// x [M, K1] or [N,H,W,C1] and x2 likewise in quads of f16; weight [taps][K][N] and, behind it, that of the shortcut,
// with N padded to {{ tile_columns }}. One workgroup computes {{ tile_rows }} rows x {{ tile_columns }} columns, 32 deep at a time: its
// {{ subgroup_rows * subgroup_columns }} subgroups own fragments of {{ fragment }}x{{ fragment }}, f16 times f16 added up in f32.
enable f16;
enable wgpu_cooperative_matrix;
// A subgroup is on its own: what it does depends on its number, which naga takes for divergent.
diagnostic(off, derivative_uniformity);
{% import "shared/io.wgsl" as io %}
{% import "shared/coop.wgsl" as coop %}
{% import "shared/pixel.wgsl" as pixel %}
{% include "shared/product.wgsl" %}
{% if has_windows %}
{{ pixel.define(taps, has_upsample, has_phases, has_strip) }}
{% set weight_row = "(4u * phase + tap)" if has_phases else "tap" %}
{% endif %}
{% set t = fragment %}
{% set rows_of = tile_rows // subgroup_rows // t %}
{% set columns_of = tile_columns // subgroup_columns // t %}
{% set a_pitch = 40 %}
{% set b_pitch = tile_columns + 8 %}
{% set c_pitch = 64 %}
{% set scratch = "sh_c" if has_vectors else "sh_scratch" %}
{% set threads = 256 %}
{% set step = 8 %}
{% set tile_quads = tile_columns // 4 %}
{# Of 64x64, four quads an invocation each. #}
{% set parts = tile_rows // 64 * (tile_columns // 64) %}
{% set split_quads = 4 * parts %}
{% set slice = "(group.y % " ~ splits ~ "u)" %}
var<workgroup> sh_a: {{ coop.memory("f16", tile_rows * a_pitch, has_vectors) }};
var<workgroup> sh_b: {{ coop.memory("f16", 32 * b_pitch, has_vectors) }};
var<workgroup> sh_c: {{ coop.memory("f32", 64 * c_pitch, has_vectors) }};
{% if not has_vectors %}
var<workgroup> sh_scratch: array<vec4<f32>, 256>;
{% endif %}
{% if norm == "layer" %}
// Mean from the row's first value, and 1/sqrt(var + eps).
var<workgroup> sh_rows: array<vec2<f32>, {{ tile_rows }}>;
{% elif norm == "group" %}
{% include "shared/norm.wgsl" %}
{% endif %}
{% if has_statistics %}
{% include "shared/statistics.wgsl" %}
{% endif %}
{% if splits > 1 %}
{% include "shared/split.wgsl" %}
{% endif %}

{#- Adds the products of all quads of `first` and, joined behind it, `second`. Row r of this invocation is
    `row ~ r`, read where `inside ~ r` holds, or always. Of several splits, those of this workgroup's slice. -#}
{% macro reduce(first, quads1, second, quads2, row, inside, weight_row, norm) %}
{% set open = "normalised(q, " if norm == "group" else "" %}
{% set close = ")" if norm == "group" else "" %}
{% set all = quads1 ~ " + " ~ quads2 %}
{% if splits > 1 %}
    for (var q0 = {{ slice }} * slice_of({{ all }}); q0 < min({{ all }}, ({{ slice }} + 1u) * slice_of({{ all }})); q0 += 8u) {
{% else %}
    for (var q0 = 0u; q0 < {{ all }}; q0 += 8u) {
{% endif %}
        let q = q0 + local % 8u;
        workgroupBarrier();
{% for r in range(tile_rows // 32) %}
{% set guard = inside ~ r ~ " && " if inside else "" %}
        {
            var a = vec4<f32>(0.0);
            if ({{ guard }}q < {{ quads1 }}) {
                a = {{ open }}{{ io.load(x_dtype, first, row ~ r ~ " * " ~ quads1 ~ " + q") }}{{ close }};
{% if norm == "layer" %}
                let d = a - vec4<f32>(shift{{ r }});
                sums{{ r }} += vec2<f32>(dot(d, vec4<f32>(1.0)), dot(d, d));
{% endif %}
            }
{% if second %}
            else if ({{ guard }}q < {{ quads1 }} + {{ quads2 }}) {
                a = {{ open }}{{ io.load(x_dtype, second, row ~ r ~ " * " ~ quads2 ~ " + q - " ~ quads1) }}{{ close }};
            }
{% endif %}
{{ coop.stage("sh_a", "(" ~ r * 32 ~ "u + local / 8u) * " ~ a_pitch ~ "u + local % 8u * 4u", "a", has_vectors) }}
        }
{% endfor %}
{% set b_quads = tile_columns // 4 %}
{# Scales of bytes take up as many words as four rows do before the first. #}
{% set first_row = "4u + " if w_dtype == "i8" else "" %}
{% for r in range(b_quads // 8) %}
        {
            let line = ({{ r * 256 }}u + local) / {{ b_quads }}u;
            let column = local % {{ b_quads }}u;
            var b = vec4<f32>(0.0);
            if (q0 * 4u + line < ({{ quads1 }} + {{ quads2 }}) * 4u) {
                b = {{ io.load(w_dtype, "weight", "(" ~ first_row ~ weight_row ~ " + q0 * 4u + line) * weight_quads + quad0 + column") }};
            }
{{ coop.stage("sh_b", "line * " ~ b_pitch ~ "u + column * 4u", "b", has_vectors) }}
        }
{% endfor %}
        workgroupBarrier();
{{ multiply() }}
    }
{% endmacro %}

{#- 32 deep: the fragments of this subgroup's rows times those of its columns. -#}
{% macro multiply() %}
{% for k in range(32 // t) %}
        {
{% for i in range(rows_of) %}
            let a{{ i }} = coopLoadT<coop_mat{{ t }}x{{ t }}<f16, A>>({{ coop.place("sh_a", "(own_row + " ~ i * t ~ "u) * " ~ a_pitch ~ "u + " ~ k * t ~ "u", a_pitch, has_vectors) }});
{% endfor %}
{% for j in range(columns_of) %}
            let b{{ j }} = coopLoadT<coop_mat{{ t }}x{{ t }}<f16, B>>({{ coop.place("sh_b", k * t * b_pitch ~ "u + own_column + " ~ j * t ~ "u", b_pitch, has_vectors) }});
{% for i in range(rows_of) %}
            c{{ i }}_{{ j }} = coopMultiplyAdd(a{{ i }}, b{{ j }}, c{{ i }}_{{ j }});
{% endfor %}
{% endfor %}
        }
{% endfor %}
{% endmacro %}

{#- Stores 64x64 of the tile: what follows the sum is done by invocations. -#}
{% macro finish_part(part) %}
{% set down = part // (tile_columns // 64) %}
{% set right = part % (tile_columns // 64) %}
{{ coop.gather_part(part, tile_columns // 64, [rows_of, columns_of], t, c_pitch, has_vectors) if splits == 1 }}
    {
        let quad = quad0 + {{ right * 16 }}u + local % 16u;
        let bias0 = bias_at(quad);
{% if w_dtype == "i8" %}
        let scale = scale_at(quad);
{% endif %}
{% if norm == "layer" %}
        let column_sums = column_sums_at(quad);
{% endif %}
{% for i in range(4) %}
        let row_of{{ i }} = {{ down * 64 }}u + local / 16u * 4u + {{ i }}u;
        let at{{ i }} = {{ coop.own_quad(i, c_pitch) }};
{% set sum = coop.quad("sh_c", "at" ~ i, has_vectors) if splits == 1 else "whole_sum(" ~ (part * 4 + i) ~ "u, local)" %}
        var sum{{ i }} = {{ sum }}{{ " * scale" if w_dtype == "i8" }};
{% if norm == "layer" %}
        sum{{ i }} = (sum{{ i }} - sh_rows[row_of{{ i }}].x * column_sums) * sh_rows[row_of{{ i }}].y;
{% endif %}
        {{ "let v" ~ i ~ " = " if has_statistics else "" }}finish(first_row + row_of{{ i }}, quad, sum{{ i }} + bias0);
{% endfor %}
{% if has_statistics %}
        if (first_row + {{ down * 64 }}u < p.m) {
            collect(local, row_tile * {{ tile_rows // 64 }}u + {{ down }}u, column * {{ tile_columns // 64 }}u + {{ right }}u, v0, v1, v2, v3);
        }
{% endif %}
    }
{% endmacro %}

{#- Leaves the sums of this slice of the tile, and goes on in the last one to be done only. -#}
{% macro leave_parts() %}
{% for part in range(parts) %}
{{ coop.gather_part(part, tile_columns // 64, [rows_of, columns_of], t, c_pitch, has_vectors) }}
{% for i in range(4) %}
    let at{{ part }}_{{ i }} = {{ coop.own_quad(i, c_pitch) }};
    leave_sum({{ slice }}, {{ part * 4 + i }}u, local, {{ coop.quad("sh_c", "at" ~ part ~ "_" ~ i, has_vectors) }});
{% endfor %}
{% endfor %}
    count_slice(local);
    if (workgroupUniformLoad(&sh_is_last) == 0u) {
        return;
    }
    storageBarrier();
{% endmacro %}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row_tile = {{ "locate(group.x + group.z * p.row_groups)" if has_windows else "group.x + group.z * p.row_groups" }};
    let first_row = row_tile * {{ tile_rows }}u;
    let column = {{ "column_of_slice(group)" if splits > 1 else "group.y" }};
    let quad0 = column * {{ tile_quads }}u;
    let own_row = subgroup / {{ subgroup_columns }}u * {{ rows_of * t }}u;
    let own_column = subgroup % {{ subgroup_columns }}u * {{ columns_of * t }}u;
    let weight_quads = (p.out_quads + {{ tile_columns // 4 - 1 }}u) / {{ tile_columns // 4 }}u * {{ tile_columns // 4 }}u;
{% for r in range(tile_rows // 32) %}
    let row{{ r }} = min(first_row + {{ r * 32 }}u + local / 8u, p.m - 1u);
{% if has_windows %}
    let corner{{ r }} = output_pixel(row{{ r }});
{% endif %}
{% if norm == "layer" %}
    // Sums start from the row's first value: a mean far from zero costs no digits.
    let first{{ r }} = {{ io.load(x_dtype, "x", "row" ~ r ~ " * p.quads1") }};
    let shift{{ r }} = first{{ r }}.x;
    var sums{{ r }} = vec2<f32>(0.0);
{% endif %}
{% endfor %}
{% if norm == "group" %}
    prepare_groups(min(first_row, p.m - 1u) / p.positions, local);
{% endif %}
{% for i in range(rows_of) %}
{% for j in range(columns_of) %}
    var c{{ i }}_{{ j }} = coop_mat{{ t }}x{{ t }}<f32, C>();
{% endfor %}
{% endfor %}
{% if has_windows %}
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
{% for r in range(tile_rows // 32) %}
        let source{{ r }} = source_pixel(corner{{ r }}, tap);
        let inside{{ r }} = source{{ r }} >= 0;
        let pixel{{ r }} = u32(max(source{{ r }}, 0));
{% endfor %}
        let weight_row = {{ weight_row }} * (p.quads1 + p.quads2) * 4u;
{{ reduce("x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "pixel", "inside", "weight_row", norm) }}
    }
{% else %}
{{ reduce("x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "row", "", "0u", norm) }}
{% endif %}
{% if has_shortcut %}
    let shortcut_row = {{ taps }}u * (p.quads1 + p.quads2) * 4u;
{{ reduce("shortcut", "p.shortcut_quads1", "shortcut2" if has_shortcut2 else "", "p.shortcut_quads2", "row", "", "shortcut_row", "none") }}
{% endif %}
{{ coop.statistics_of_rows(tile_rows, scratch) if norm == "layer" }}
{{ leave_parts() if splits > 1 }}
{% for part in range(parts) %}
{{ finish_part(part) }}
{% endfor %}
}
