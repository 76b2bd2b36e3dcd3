// Matrix product for GPUs: y[m][n] = act(sum_k norm(x)[m][k]*W[n][k] + bias + residual).
// x [M, K1] and x2 [M, K2] in quads; weight [K][N] with N padded to 64.
// One workgroup computes {{ tile_rows }} rows x 64 columns through 16-deep tiles in workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/tile.wgsl" as tile %}
{% include "shared/product.wgsl" %}
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

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row_group = group.x + group.z * p.row_groups;
    let first_row = row_group * {{ tile_rows }}u;
    let column = {{ "column_of_slice(group)" if splits > 1 else "group.y" }};
    let quad0 = column * 16u;
    let ty = local / 16u;
    let tx = local % 16u;
    // N is padded to whole tiles of 16 quads.
    let weight_quads = (p.out_quads + 15u) / 16u * 16u;
{% for r in range(tile_rows * 4 // threads) %}
    let row{{ r }} = min(first_row + {{ r * threads // 4 }}u + local / 4u, p.m - 1u);
{% endfor %}
{% if norm == "group" %}
    prepare_groups(min(first_row, p.m - 1u) / p.positions, local);
{% elif norm == "layer" %}
    // Sums start from the row's first value: a mean far from zero costs no digits.
{% for r in range(tile_rows * 4 // threads) %}
    let first{{ r }} = {{ io.load(x_dtype, "x", "row" ~ r ~ " * p.quads1") }};
    let shift{{ r }} = first{{ r }}.x;
    var sum{{ r }} = 0.0;
    var squares{{ r }} = 0.0;
{% endfor %}
{% endif %}
{{ tile.declare(tile_rows, threads) }}
{{ tile.reduce(tile_rows, threads, splits, x_dtype, w_dtype, "x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "row", "", "0u", norm) }}
{{ tile.finish(tile_rows, threads, splits, w_dtype, norm, has_statistics) }}
}
