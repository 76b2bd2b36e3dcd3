{% import "shared/io.wgsl" as io %}
// Multi-head attention for CPU adapters: subgroups of {{ lanes }} lanes, no workgroup memory.
//
//   y[n, t, h] = softmax_j(scale * q[n, t, h] . k[n, j, h]) v[n, j, h]{% if causal %}, j <= t{% endif %}

// q: [N, T, .. D ..] {{ q_dtype }}   k, v: [N or 1, S, .. D ..] {{ k_dtype }}, {{ v_dtype }}   y: [N, T, heads * D] {{ q_dtype }}
// D = {{ 4 * quads }}; head h has columns offset + h * D. Everything is accumulated in f32.
//
// Workgroup (i, h, n) is one subgroup; a lane owns {{ queries }} of {{ lanes * queries }} queries. Keys come in blocks of
// {{ lanes }}: lane l reads the key and value rows of key l once, and broadcasts hand each quad to all
// lanes, because a storage read costs as much when all lanes read one address as when they do
// not. The softmax is online: a running maximum, sum and output, rescaled block by block.

{% include "shared/attention.wgsl" %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let column = id.y * {{ quads }}u;
    let first = id.x * {{ lanes * queries }}u;
    {% for a in range(queries) %}
    let t{{ a }} = first + {{ lanes * a }}u + lane;
    let q_ix{{ a }} = (id.z * p.queries + min(t{{ a }}, p.queries - 1u)) * p.q_pitch + p.q_offset + column;
    {% for i in range(quads) %}
    let q{{ a }}_{{ i }} = p.factor * {{ io.load(q_dtype, "q", "q_ix" ~ a ~ " + " ~ i ~ "u") }};
    var y{{ a }}_{{ i }} = vec4<f32>(0.0);
    {% endfor %}
    var top{{ a }} = MASKED;
    var sum{{ a }} = 0.0;
    {% endfor %}
    let end = {% if causal %}min(p.keys, first + {{ lanes * queries }}u){% else %}p.keys{% endif %};
    for (var j = 0u; j < end; j += {{ lanes }}u) {
        let row = min(j + lane, p.keys - 1u);
        let k_ix = (id.z * p.k_rows + row) * p.k_pitch + p.k_offset + column;
        let v_ix = (id.z * p.v_rows + row) * p.v_pitch + p.v_offset + column;

        // Scores of this lane's queries with each key of the block.
        {% for a in range(queries) %}
        {% for l in range(lanes) %}
        var s{{ a }}_{{ l }} = 0.0;
        {% endfor %}
        {% endfor %}
        {% for i in range(quads) %}
        {
            let own = {{ io.load(k_dtype, "k", "k_ix + " ~ i ~ "u") }};
            {% for l in range(lanes) %}
            let k{{ l }} = subgroupBroadcast(own, {{ l }}u);
            {% for a in range(queries) %}
            s{{ a }}_{{ l }} = fma(q{{ a }}_{{ i }}.x, k{{ l }}.x, fma(q{{ a }}_{{ i }}.y, k{{ l }}.y, fma(q{{ a }}_{{ i }}.z, k{{ l }}.z, fma(q{{ a }}_{{ i }}.w, k{{ l }}.w, s{{ a }}_{{ l }}))));
            {% endfor %}
            {% endfor %}
        }
        {% endfor %}

        // Probabilities against the new maximum, and what the old ones shrink by.
        {% for a in range(queries) %}
        var high{{ a }} = top{{ a }};
        {% for l in range(lanes) %}
        s{{ a }}_{{ l }} = select(MASKED, s{{ a }}_{{ l }}, j + {{ l }}u < {% if causal %}min(p.keys, t{{ a }} + 1u){% else %}p.keys{% endif %});
        high{{ a }} = max(high{{ a }}, s{{ a }}_{{ l }});
        {% endfor %}
        let shrink{{ a }} = exp2(top{{ a }} - high{{ a }});
        top{{ a }} = high{{ a }};
        sum{{ a }} *= shrink{{ a }};
        {% for l in range(lanes) %}
        let p{{ a }}_{{ l }} = exp2(s{{ a }}_{{ l }} - high{{ a }});
        sum{{ a }} += p{{ a }}_{{ l }};
        {% endfor %}
        {% endfor %}

        {% for i in range(quads) %}
        {
            let own = {{ io.load(v_dtype, "v", "v_ix + " ~ i ~ "u") }};
            {% for a in range(queries) %}
            var sum_y{{ a }} = y{{ a }}_{{ i }} * shrink{{ a }};
            {% endfor %}
            {% for l in range(lanes) %}
            let v{{ l }} = subgroupBroadcast(own, {{ l }}u);
            {% for a in range(queries) %}
            sum_y{{ a }} = fma(vec4<f32>(p{{ a }}_{{ l }}), v{{ l }}, sum_y{{ a }});
            {% endfor %}
            {% endfor %}
            {% for a in range(queries) %}
            y{{ a }}_{{ i }} = sum_y{{ a }};
            {% endfor %}
        }
        {% endfor %}
    }
    {% for a in range(queries) %}
    if (t{{ a }} < p.queries) {
        let ix = (id.z * p.queries + t{{ a }}) * p.y_pitch + column;
        let weight = 1.0 / sum{{ a }};
        {% for i in range(quads) %}
        {{ io.store(q_dtype, "y", "ix + " ~ i ~ "u", "y" ~ a ~ "_" ~ i ~ " * weight") }}
        {% endfor %}
    }
    {% endfor %}
}
