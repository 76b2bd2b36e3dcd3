// 3x3 (or strided 1x1) convolution for GPUs, as an implicit matrix product over taps:
// y[n,oy,ox,o] = act(sum_{tap,c} up(x)[n, oy*s+dy, ox*s+dx, c]*W[o,c,tap] + bias + time + residual).
// Behind a doubling, up(x) is not built: each of four phases of the result is a 2x2 convolution of x.
// x [N,H,W,C1], x2 [N,H,W,C2] in quads; weight [taps][C][O] with O padded to 64.
// One workgroup computes 64 pixels x 64 channels through 16-deep tiles in workgroup memory.
{% import "shared/io.wgsl" as io %}
{% import "shared/tile.wgsl" as tile %}
{% import "shared/pixel.wgsl" as pixel %}
{% include "shared/product.wgsl" %}
{{ pixel.define(taps, has_upsample, has_phases) }}
{{ tile.memory() }}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let asked = group.x + group.z * p.row_groups;
{% if has_phases %}
    // Groups past the last phase have no rows.
    let row_group = select(asked % p.phase_groups, p.phase_groups, asked / p.phase_groups > 3u);
    phase = min(asked / p.phase_groups, 3u);
{% else %}
    let row_group = asked;
{% endif %}
    let row0 = row_group * 64u;
    let quad0 = group.y * 16u;
    let ty = local / 16u;
    let tx = local % 16u;
    let quads = p.quads1 + p.quads2;
    // N is padded to whole tiles of 16 quads.
    let weight_quads = (p.out_quads + 15u) / 16u * 16u;
    let corner = output_pixel(min(row0 + local / 4u, p.m - 1u));
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    for (var tap = 0u; tap < {{ taps }}u; tap++) {
        let source = source_pixel(corner, tap);
        let at_pixel = u32(max(source, 0));
        for (var q0 = 0u; q0 < quads; q0 += 4u) {
        let q = q0 + local % 4u;
        var a = vec4<f32>(0.0);
        if (source >= 0 && q < p.quads1) {
            a = {{ io.load(x_dtype, "x", "at_pixel * p.quads1 + q") }};
        }
{% if has_x2 %}
        else if (source >= 0 && q >= p.quads1 && q < quads) {
            a = {{ io.load(x_dtype, "x2", "at_pixel * p.quads2 + q - p.quads1") }};
        }
{% endif %}
        let k = q0 * 4u + local / 16u;
        var b = vec4<f32>(0.0);
        if (k < quads * 4u) {
            b = {{ io.load(w_dtype, "weight", "(" ~ ("(4u * phase + tap)" if has_phases else "tap") ~ " * quads * 4u + k) * weight_quads + quad0 + local % 16u") }};
        }
{{ tile.multiply() }}
        }
    }
    let bias0 = bias_at(quad0 + tx);
{% for i in range(4) %}
    finish(row0 + ty * 4u + {{ i }}u, quad0 + tx, acc{{ i }} + bias0);
{% endfor %}
}
