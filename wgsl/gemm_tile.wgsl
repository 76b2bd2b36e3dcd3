// Matrix product for GPUs: y[m][n] = act(sum_k norm(x)[m][k]*W[n][k] + bias + residual).
// x [M, K1] and x2 [M, K2] in quads; weight [K][N] with N padded to 64.
// One workgroup computes 64 rows x 64 columns through 16-deep tiles in workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/tile.wgsl" as tile %}
{% include "shared/product.wgsl" %}
{{ tile.memory() }}
{% set threads = 256 %}
{% set scratch = "sh_b" %}
{% if norm == "group" %}
{% include "shared/norm.wgsl" %}
{% endif %}
{% if has_statistics %}
{% include "shared/statistics.wgsl" %}
{% endif %}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row_group = group.x + group.z * p.row_groups;
    let row0 = row_group * 64u;
    let quad0 = group.y * 16u;
    let ty = local / 16u;
    let tx = local % 16u;
    // N is padded to whole tiles of 16 quads.
    let weight_quads = (p.out_quads + 15u) / 16u * 16u;
    let row = min(row0 + local / 4u, p.m - 1u);
{% if norm == "group" %}
    prepare_groups(min(row0, p.m - 1u) / p.positions, local);
{% elif norm == "layer" %}
    // Sums start from the row's first value: a mean far from zero costs no digits.
    let first = {{ io.load(x_dtype, "x", "row * p.quads1") }};
    let shift = first.x;
    var sum = 0.0;
    var squares = 0.0;
{% endif %}
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
{{ tile.reduce(x_dtype, w_dtype, "x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "row", "", "0u", norm) }}
{{ tile.finish(norm, has_statistics) }}
}
