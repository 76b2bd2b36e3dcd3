{% import "shared/io.wgsl" as io %}
// First of two parts of a cosine similarity: sums over a share of the elements.
//
//   parts[i] = (sum a·b, sum a·a, sum b·b, 0)
//
// a: [N, H, W, C] {{ a_dtype }}   b: [N, H, W, C] {{ b_dtype }}   parts: [1, 1, shares, 3] f32 (pitch 4)
// {% if tier == "lane" %}An invocation owns a share{% else %}A workgroup owns a share{% endif %}: invocations take quads in turn, so that neighbours read
// neighbours. Padding channels are zero in both and add nothing.

struct Params {
    quads: u32,   // quads of a
    threads: u32, // invocations in the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: {{ io.quads(a_dtype) }};
@group(0) @binding(1) var<storage, read> b: {{ io.quads(b_dtype) }};
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<f32>>;

{% set total_type = "vec4<f32>" %}
{% include "shared/total.wgsl" %}

@compute @workgroup_size(64)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    // Quads of sums: four independent chains each, added up once at the end.
    var ab = vec4<f32>(0.0);
    var aa = vec4<f32>(0.0);
    var bb = vec4<f32>(0.0);
    for (var i = id.x; i < p.quads; i += p.threads) {
        let u = {{ io.load(a_dtype, "a", "i") }};
        let v = {{ io.load(b_dtype, "b", "i") }};
        ab = fma(u, v, ab);
        aa = fma(u, u, aa);
        bb = fma(v, v, bb);
    }
    let one = vec4<f32>(1.0);
    let sums = total(t, vec4<f32>(dot(ab, one), dot(aa, one), dot(bb, one), 0.0));
    {% if tier == "lane" %}
    parts[id.x] = sums;
    {% else %}
    if (t == 0u) {
        parts[group.x] = sums;
    }
    {% endif %}
}
