// Matrix product, or 3x3 (or strided 1x1) convolution as one, for GPUs with cooperative matrices:
// y[m][n] = act(sum_k norm(x)[m][k]*W[n][k] + bias + time + shortcut + residual), convolutions over taps as conv2d_tile.
// x [M, K1] or [N,H,W,C1] and x2 likewise in quads of f16; weight [taps][K][N] and, behind it, that of the shortcut,
// with N padded to {{ tile_columns }}. One workgroup computes {{ tile_rows }} rows x {{ tile_columns }} columns, 32 deep at a time: its
// {{ subgroup_rows * subgroup_columns }} subgroups own fragments of {{ fragment }}x{{ fragment }}, f16 times f16 added up in f32.
{% block more %}{% endblock %}
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
{% block geometry %}
fn first_row_of(tile: u32) -> u32 {
    return tile * {{ tile_rows }}u;
}
fn tile_row(first_row: u32, i: u32) -> u32 {
    return first_row + i;
}
{% endblock %}
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
{% set b_quads = tile_columns // 4 %}
{# Rows whose channels are in workgroup memory. #}
{% set staged = halo if halo is defined else tile_rows %}
{% set slice = "(group.y % " ~ splits ~ "u)" %}
var<workgroup> sh_a: {{ coop.memory("f16", staged * a_pitch, has_vectors) }};
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

{{ coop.weights(w_dtype, b_quads) }}

{#- Eight quads at a time of `quads`; of several splits, those of this workgroup's slice. -#}
{% macro each_step(quads) %}
{% if splits > 1 %}
    for (var q0 = {{ slice }} * slice_of({{ quads }}); q0 < min({{ quads }}, ({{ slice }} + 1u) * slice_of({{ quads }})); q0 += 8u) {
{% else %}
    for (var q0 = 0u; q0 < {{ quads }}; q0 += 8u) {
{% endif %}
        let q = q0 + local % 8u;
        workgroupBarrier();
{% endmacro %}

{#- Puts quad q of this invocation's pixel r into workgroup memory, of `first` or, joined behind it, `second`. The pixel is
    row `row ~ r`, read where `inside ~ r` holds, or always. -#}
{% macro fetch(r, first, quads1, second, quads2, row, inside, norm) %}
{% set open = "normalised(q, " if norm == "group" else "" %}
{% set close = ")" if norm == "group" else "" %}
{% set guard = inside ~ r ~ " && " if inside else "" %}
        {{ "if (local < " ~ (staged - r * 32) * 8 ~ "u) " if inside and r * 32 + 32 > staged }}{
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
{% endmacro %}

{#- Adds the products of all quads of `first` and `second` at rows of the tile; their weights begin at `weight_row`. -#}
{% macro reduce(first, quads1, second, quads2, row, inside, weight_row, norm) %}
{{ each_step(quads1 ~ " + " ~ quads2) }}
{% for r in range(tile_rows // 32) %}
{{ fetch(r, first, quads1, second, quads2, row, inside, norm) }}
{% endfor %}
{% for r in range(b_quads // 8) %}
        {
            let b = weight_quad(q0 * 4u + line{{ r }} < ({{ quads1 }} + {{ quads2 }}) * 4u, {{ weight_row }} + q0 * 4u + line{{ r }}, own_quad);
{{ coop.stage("sh_b", "line" ~ r ~ " * " ~ b_pitch ~ "u + local % " ~ b_quads ~ "u * 4u", "b", has_vectors) }}
        }
{% endfor %}
        workgroupBarrier();
{{ multiply("(own_row + ", "u)") }}
    }
{% endmacro %}

{#- 32 deep: the fragments of this subgroup's rows, the first pixel of which is `open ~ row ~ close` of those in workgroup
    memory, times those of its columns. -#}
{% macro multiply(open, close) %}
{% for k in range(32 // t) %}
        {
{% for i in range(rows_of) %}
            let a{{ i }} = coopLoadT<coop_mat{{ t }}x{{ t }}<f16, A>>({{ coop.place("sh_a", open ~ i * t ~ close ~ " * " ~ a_pitch ~ "u + " ~ k * t ~ "u", a_pitch, has_vectors) }});
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
        {{ "let v" ~ i ~ " = " if has_statistics else "" }}finish(tile_row(first_row, row_of{{ i }}), quad, sum{{ i }} + bias0);
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
    let first_row = first_row_of(row_tile);
    let column = {{ "column_of_slice(group)" if splits > 1 else "group.y" }};
    let quad0 = column * {{ tile_quads }}u;
    let own_row = subgroup / {{ subgroup_columns }}u * {{ rows_of * t }}u;
    let own_column = subgroup % {{ subgroup_columns }}u * {{ columns_of * t }}u;
    // Of weights, this invocation reads a quad of columns of some lines.
    let own_quad = quad0 + local % {{ b_quads }}u;
{% for r in range(b_quads // 8) %}
    let line{{ r }} = ({{ r * 256 }}u + local) / {{ b_quads }}u;
{% endfor %}
{% for r in range(tile_rows // 32) %}
    let row{{ r }} = min(tile_row(first_row, {{ r * 32 }}u + local / 8u), p.m - 1u);
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
{% block reduction %}
{% if has_windows %}
{% for r in range(tile_rows // 32) %}
    let corner{{ r }} = output_pixel(row{{ r }});
{% endfor %}
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
{% for r in range(tile_rows // 32) %}
{{ pixel.source(r, "source_pixel(corner" ~ r ~ ", tap)") }}
{% endfor %}
        let weight_row = {{ weight_row }} * (p.quads1 + p.quads2) * 4u;
{{ reduce("x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "pixel", "inside", "weight_row", norm) }}
    }
{% else %}
{{ reduce("x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "row", "", "0u", norm) }}
{% endif %}
{% endblock %}
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
