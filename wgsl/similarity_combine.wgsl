// Second of two parts of a cosine similarity: from the shares' sums to the quotient.
//
//   y = sum ab / max(sqrt(sum aa) * sqrt(sum bb), least)
//
// parts: [1, 1, shares, 3] f32 (pitch 4)   y: [1, 1, 1, 1] f32 (pitch 4)
// {% if tier == "lane" %}The first invocation does it all{% else %}One workgroup does it all{% endif %}, always in the same order.

struct Params {
    shares: u32,
    least: f32, // smallest divisor
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

{% set total_type = "vec4<f32>" %}
{% include "shared/total.wgsl" %}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
    {% if tier == "lane" %}
    if (local > 0u) {
        return;
    }
    let t = 0u;
    {% else %}
    let t = local;
    {% endif %}
    var sum = vec4<f32>(0.0);
    for (var i = t; i < p.shares; i += STRIDE) {
        sum += parts[i];
    }
    sum = total(t, sum);
    if (t == 0u) {
        // Two roots: the product of the sums may leave the range of f32.
        let length = sqrt(sum.y) * sqrt(sum.z);
        y[0] = vec4<f32>(sum.x / max(length, p.least), 0.0, 0.0, 0.0);
    }
}
