{% import "shared/io.wgsl" as io %}
// Multi-head attention of wide heads for CPU adapters: subgroups of {{ lanes }} lanes, no workgroup memory.
//
//   y[n, t, h] = softmax_j(scale * q[n, t, h] . k[n, j, h]) v[n, j, h]{% if causal %}, j <= t{% endif %}

// q: [N, T, .. D ..] {{ q_dtype }}   k, v: [N or 1, S, .. D ..] {{ k_dtype }}, {{ v_dtype }}   y: [N, T, heads * D] {{ q_dtype }}
// D = {{ 4 * quads }}; head h has columns offset + h * D. Everything is accumulated in f32.
//
// Workgroup (i, h * parts + part, n) is one subgroup; a lane owns one of {{ lanes }} queries, and {{ 4 * part }} columns of
// its output: drivers are slow to compile those of all D unrolled. So each part finds the scores anew, in a loop over
// D. Keys come in blocks of {{ lanes }}: lane l reads the key and value rows of key l once, and broadcasts hand each quad to
// all lanes. The softmax is online: a running maximum, sum and output, rescaled block by block.
{% set parts = (quads + part - 1) // part %}

{% include "shared/attention.wgsl" %}

{#- Probabilities against the new maximum, and what the old ones shrink by. -#}
{% macro weigh() %}
        var high = top;
        {% for l in range(lanes) %}
        s{{ l }} = select(MASKED, s{{ l }}, j + {{ l }}u < {% if causal %}min(p.keys, t + 1u){% else %}p.keys{% endif %});
        high = max(high, s{{ l }});
        {% endfor %}
        let shrink = exp2(top - high);
        top = high;
        sum *= shrink;
        {% for l in range(lanes) %}
        let p{{ l }} = exp2(s{{ l }} - high);
        sum += p{{ l }};
        {% endfor %}
{% endmacro %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let column = id.y / {{ parts }}u * {{ quads }}u;
    let first = id.y % {{ parts }}u * {{ part }}u; // quad of the part, past the last ones of which are none
    let t = id.x * {{ lanes }}u + lane;
    let q_ix = (id.z * p.queries + min(t, p.queries - 1u)) * p.q_pitch + p.q_offset + column;
    {% for i in range(part) %}
    let at{{ i }} = min(first + {{ i }}u, {{ quads - 1 }}u);
    var y{{ i }} = vec4<f32>(0.0);
    {% endfor %}
    var top = MASKED;
    var sum = 0.0;
    let end = {% if causal %}min(p.keys, id.x * {{ lanes }}u + {{ lanes }}u){% else %}p.keys{% endif %};
    for (var j = 0u; j < end; j += {{ lanes }}u) {
        let row = min(j + lane, p.keys - 1u);
        let k_ix = (id.z * p.k_rows + row) * p.k_pitch + p.k_offset + column;
        let v_ix = (id.z * p.v_rows + row) * p.v_pitch + p.v_offset + column;

        // Scores of this lane's query with each key of the block.
        {% for l in range(lanes) %}
        var s{{ l }} = 0.0;
        {% endfor %}
        for (var i = 0u; i < {{ quads }}u; i++) {
            let asked = p.factor * {{ io.load(q_dtype, "q", "q_ix + i") }};
            let own = {{ io.load(k_dtype, "k", "k_ix + i") }};
            {% for l in range(lanes) %}
            let k{{ l }} = subgroupBroadcast(own, {{ l }}u);
            s{{ l }} = fma(asked.x, k{{ l }}.x, fma(asked.y, k{{ l }}.y, fma(asked.z, k{{ l }}.z, fma(asked.w, k{{ l }}.w, s{{ l }}))));
            {% endfor %}
        }

{{ weigh() }}
        {% for i in range(part) %}
        {
            let own = {{ io.load(v_dtype, "v", "v_ix + at" ~ i) }};
            var sum_y = y{{ i }} * shrink;
            {% for l in range(lanes) %}
            sum_y = fma(vec4<f32>(p{{ l }}), subgroupBroadcast(own, {{ l }}u), sum_y);
            {% endfor %}
            y{{ i }} = sum_y;
        }
        {% endfor %}
    }
    if (t < p.queries) {
        let ix = (id.z * p.queries + t) * p.y_pitch + column;
        let weight = 1.0 / sum;
        {% for i in range(part) %}
        if (first + {{ i }}u < {{ quads }}u) {
            {{ io.store(q_dtype, "y", "ix + at" ~ i, "y" ~ i ~ " * weight") }}
        }
        {% endfor %}
    }
}
