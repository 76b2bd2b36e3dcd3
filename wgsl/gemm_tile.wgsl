// Matrix product for GPUs: y[m][n] = act(sum_k x[m][k]*W[n][k] + bias + residual).
// x [M, K1] and x2 [M, K2] in quads; weight [K][N] with N padded to 64.
// One workgroup computes 64 rows x 64 columns through 16-deep tiles in workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/tile.wgsl" as tile %}
{% include "shared/product.wgsl" %}
{{ tile.memory() }}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row0 = (group.x + group.z * p.row_groups) * 64u;
    let quad0 = group.y * 16u;
    let ty = local / 16u;
    let tx = local % 16u;
    let quads = p.quads1 + p.quads2;
    // N is padded to whole tiles of 16 quads.
    let weight_quads = (p.out_quads + 15u) / 16u * 16u;
    let row = min(row0 + local / 4u, p.m - 1u);
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    for (var q0 = 0u; q0 < quads; q0 += 4u) {
        let q = q0 + local % 4u;
        var a = vec4<f32>(0.0);
        if (q < p.quads1) {
            a = {{ io.load(x_dtype, "x", "row * p.quads1 + q") }};
        }
{% if has_x2 %}
        else if (q < quads) {
            a = {{ io.load(x_dtype, "x2", "row * p.quads2 + q - p.quads1") }};
        }
{% endif %}
        let k = q0 * 4u + local / 16u;
        var b = vec4<f32>(0.0);
        if (k < quads * 4u) {
            b = {{ io.load(w_dtype, "weight", "k * weight_quads + quad0 + local % 16u") }};
        }
{{ tile.multiply() }}
    }
    let bias0 = bias_at(quad0 + tx);
{% for i in range(4) %}
    finish(row0 + ty * 4u + {{ i }}u, quad0 + tx, acc{{ i }} + bias0);
{% endfor %}
}
