{#- Include: STRIDE, the invocations that share a row, and fn total(t, v), the sum of their `v`.
    Needs tier; `total_type` where that is not two f32. -#}
{% set total_type = total_type | default("vec2<f32>") %}
{% if tier == "lane" %}
const STRIDE = 1u;
fn total(t: u32, v: {{ total_type }}) -> {{ total_type }} {
    return v;
}
{% else %}
const STRIDE = 64u;
var<workgroup> sh_sums: array<{{ total_type }}, 64>;

// Sum of `v` over the workgroup.
fn total(t: u32, v: {{ total_type }}) -> {{ total_type }} {
    sh_sums[t] = v;
    workgroupBarrier();
    {% for half in [32, 16, 8, 4, 2, 1] %}
    if (t < {{ half }}u) {
        sh_sums[t] += sh_sums[t + {{ half }}u];
    }
    workgroupBarrier();
    {% endfor %}
    let sum = sh_sums[0];
    workgroupBarrier();
    return sum;
}
{% endif %}
