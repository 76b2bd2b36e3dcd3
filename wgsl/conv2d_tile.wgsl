// 3x3 (or strided 1x1) convolution for GPUs, as an implicit matrix product over taps:
// y[n,oy,ox,o] = act(sum_{tap,c} norm(up(x))[n, oy*s+dy, ox*s+dx, c]*W[o,c,tap] + bias + time + shortcut + residual).
// Behind a doubling, up(x) is not built: each of four phases of the result is a 2x2 convolution of x.
// x [N,H,W,C1], x2 [N,H,W,C2] in quads; weight [taps][C][O] and, behind it, that of the shortcut [C'][O], with O
// padded to 64. One workgroup computes {{ tile_rows }} pixels x 64 channels through 16-deep tiles in workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/tile.wgsl" as tile %}
{% import "shared/pixel.wgsl" as pixel %}
{% include "shared/product.wgsl" %}
{{ pixel.define(taps, has_upsample, has_phases, has_strip) }}
{{ tile.memory(tile_rows) }}
{% set scratch = "sh_b" %}
{% set step = 4 %}
{% set tile_quads = 16 %}
{% set split_quads = tile_rows * 16 // threads %}
{% if norm == "group" %}
{% include "shared/norm.wgsl" %}
{% endif %}
{% if has_statistics %}
{% include "shared/statistics.wgsl" %}
{% endif %}
{% if splits > 1 %}
{% include "shared/split.wgsl" %}
{% endif %}
{% set weight_row = "(4u * phase + tap)" if has_phases else "tap" %}

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row_group = locate(group.x + group.z * p.row_groups);
    let first_row = row_group * {{ tile_rows }}u;
    let column = {{ "column_of_slice(group)" if splits > 1 else "group.y" }};
    let quad0 = column * 16u;
    let ty = local / 16u;
    let tx = local % 16u;
    let quads = p.quads1 + p.quads2;
    // N is padded to whole tiles of 16 quads.
    let weight_quads = (p.out_quads + 15u) / 16u * 16u;
{% for r in range(tile_rows * 4 // threads) %}
    let row{{ r }} = min(first_row + {{ r * threads // 4 }}u + local / 4u, p.m - 1u);
    let corner{{ r }} = output_pixel(row{{ r }});
{% endfor %}
{% if norm == "group" %}
    prepare_groups(min(first_row, p.m - 1u) / p.positions, local);
{% endif %}
{{ tile.declare(tile_rows, threads) }}
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
{% for r in range(tile_rows * 4 // threads) %}
{{ pixel.source(r, "source_pixel(corner" ~ r ~ ", tap)") }}
{% endfor %}
        let weight_row = {{ weight_row }} * quads * 4u;
{{ tile.reduce(tile_rows, threads, splits, x_dtype, w_dtype, "x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "pixel", "inside", "weight_row", norm) }}
    }
{% if has_shortcut %}
    let shortcut_row = {{ taps }}u * quads * 4u;
{{ tile.reduce(tile_rows, threads, splits, x_dtype, w_dtype, "shortcut", "p.shortcut_quads1", "shortcut2" if has_shortcut2 else "", "p.shortcut_quads2", "row", "", "shortcut_row", "none") }}
{% endif %}
{{ tile.finish(tile_rows, threads, splits, w_dtype, norm, has_statistics) }}
}
