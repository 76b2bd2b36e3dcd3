{% import "shared/io.wgsl" as io %}
{% set part = (quads + split - 1) // split %}
{% set row = part * split %}
// Multi-head attention for GPUs, within 16 KiB of workgroup memory and without subgroups.
//
//   y[n, t, h] = softmax_j(scale * q[n, t, h] . k[n, j, h]) v[n, j, h]{% if causal %}, j <= t{% endif %}

// q: [N, T, .. D ..] {{ q_dtype }}   k, v: [N or 1, S, .. D ..] {{ k_dtype }}, {{ v_dtype }}   y: [N, T, heads * D] {{ q_dtype }}
// D = {{ 4 * quads }}; head h has columns offset + h * D. Everything is accumulated in f32.
//
// Workgroup (i, h, n) owns {{ 64 // split }} queries: {{ split }} invocation(s) for each, with {{ part }} quads of D each (the last
// may be padding). Tiles of {{ keys }} keys, then of their values, pass through one f32 tile in workgroup
// memory, and the scores in between: unrolling all keys by D instead takes drivers seconds to
// compile. The softmax is online: a running maximum, sum and output, rescaled tile by tile.

{% include "shared/attention.wgsl" %}

// {{ keys }} rows of {{ row }} quads.
var<workgroup> sh_tile: array<vec4<f32>, {{ keys * row }}>;
// Scores [key][query][part]; a score is the sum of its parts.
var<workgroup> sh_scores: array<f32, {{ keys * 64 }}>;

{% macro score() %}
select(MASKED, {% for i in range(split) %}{% if i > 0 %} + {% endif %}sh_scores[l * 64u + own + {{ i }}u]{% endfor %}, j + l < visible)
{%- endmacro %}
{% macro fill(dtype, buf, rows, pitch, offset) %}
        for (var i = t; i < {{ keys * row }}u; i += 64u) {
            let key = j + i / {{ row }}u;
            let quad = i % {{ row }}u;
            var value = vec4<f32>(0.0);
            if (key < p.keys{% if row != quads %} && quad < {{ quads }}u{% endif %}) {
                let ix = (id.z * {{ rows }} + key) * {{ pitch }} + {{ offset }} + column + quad;
                value = {{ io.load(dtype, buf, "ix") }};
            }
            sh_tile[i] = value;
        }
{% endmacro %}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let column = id.y * {{ quads }}u;
    let first = id.x * {{ 64 // split }}u;
    let query = first + t / {{ split }}u;
    let own = t - t % {{ split }}u; // first part of this query
    let start = (t - own) * {{ part }}u; // first quad of this invocation
    let q_ix = (id.z * p.queries + min(query, p.queries - 1u)) * p.q_pitch + p.q_offset + column;
    {% for i in range(part) %}
    {% if row == quads %}
    let q_{{ i }} = p.factor * {{ io.load(q_dtype, "q", "q_ix + start + " ~ i ~ "u") }};
    {% else %}
    var q_{{ i }} = vec4<f32>(0.0);
    if (start + {{ i }}u < {{ quads }}u) {
        q_{{ i }} = p.factor * {{ io.load(q_dtype, "q", "q_ix + start + " ~ i ~ "u") }};
    }
    {% endif %}
    var y_{{ i }} = vec4<f32>(0.0);
    {% endfor %}
    var top = MASKED;
    var sum = 0.0;
    let visible = {% if causal %}min(p.keys, query + 1u){% else %}p.keys{% endif %};
    let end = {% if causal %}min(p.keys, first + {{ 64 // split }}u){% else %}p.keys{% endif %};
    for (var j = 0u; j < end; j += {{ keys }}u) {
{{ fill(k_dtype, "k", "p.k_rows", "p.k_pitch", "p.k_offset") }}
        workgroupBarrier();
        for (var l = 0u; l < {{ keys }}u; l++) {
            let at = l * {{ row }}u + start;
            var dots = vec4<f32>(0.0);
            {% for i in range(part) %}
            dots = fma(q_{{ i }}, sh_tile[at + {{ i }}u], dots);
            {% endfor %}
            sh_scores[l * 64u + t] = (dots.x + dots.y) + (dots.z + dots.w);
        }
        workgroupBarrier();

        // The tile is free: values while the maximum is found.
{{ fill(v_dtype, "v", "p.v_rows", "p.v_pitch", "p.v_offset") }}
        var high = top;
        for (var l = 0u; l < {{ keys }}u; l++) {
            let score = {{ score() }};
            high = max(high, score);
        }
        let shrink = exp2(top - high);
        top = high;
        sum *= shrink;
        {% for i in range(part) %}
        y_{{ i }} *= shrink;
        {% endfor %}
        workgroupBarrier();
        for (var l = 0u; l < {{ keys }}u; l++) {
            let score = {{ score() }};
            let weight = exp2(score - high);
            let at = l * {{ row }}u + start;
            sum += weight;
            {% for i in range(part) %}
            y_{{ i }} = fma(vec4<f32>(weight), sh_tile[at + {{ i }}u], y_{{ i }});
            {% endfor %}
        }
        workgroupBarrier();
    }
    if (query < p.queries) {
        let ix = (id.z * p.queries + query) * p.y_pitch + column + start;
        let weight = 1.0 / sum;
        {% for i in range(part) %}
        {% if row != quads %}
        if (start + {{ i }}u < {{ quads }}u) {
        {% endif %}
        {{ io.store(q_dtype, "y", "ix + " ~ i ~ "u", "y_" ~ i ~ " * weight") }}
        {% if row != quads %}
        }
        {% endif %}
        {% endfor %}
    }
}
