// Multi-head attention for GPUs with cooperative matrices.
//
//   y[n, t, h] = softmax_j(scale * q[n, t, h] . k[n, j, h]) v[n, j, h]{% if causal %}, j <= t{% endif %}

// q: [N, T, .. D ..]   k, v: [N or 1, S, .. D ..]   y: [N, T, heads * D], all f16 and D = {{ 4 * quads }}; head h has columns
// offset + h * D.
//
// Workgroup (i, h, n) owns {{ block }} queries, {{ 256 // block }} invocations for each. {{ keys_block }} keys at a time, then their values, pass
// through workgroup memory; subgroups multiply fragments of {{ fragment }}x{{ fragment }}, f16 times f16 added up in f32, and leave them in
// workgroup memory, where invocations find the maximum, weigh, and add up the output in registers.
enable f16;
enable wgpu_cooperative_matrix;
// A subgroup is on its own: what it does depends on its number, which naga takes for divergent.
diagnostic(off, derivative_uniformity);
{% import "shared/io.wgsl" as io %}
{% import "shared/coop.wgsl" as coop %}
{% include "shared/attention.wgsl" %}
{% set t = fragment %}
{#- Channels with zeros up to whole fragments. -#}
{% set wide = (4 * quads + t - 1) // t * t %}
{% set pitch = wide + 8 %}
{% set p_pitch = keys_block + 8 %}
{#- Invocations of a query, and output quads of each. -#}
{% set split = 256 // block %}
{% set part = (quads + split - 1) // split %}
{#- Scores, or output of up to 64 channels. -#}
{% set s_pitch = 64 %}
var<workgroup> sh_q: {{ coop.memory("f16", block * pitch, has_vectors) }};
var<workgroup> sh_kv: {{ coop.memory("f16", keys_block * pitch, has_vectors) }};
var<workgroup> sh_p: {{ coop.memory("f16", block * p_pitch, has_vectors) }};
var<workgroup> sh_s: {{ coop.memory("f32", block * s_pitch, has_vectors) }};
var<workgroup> sh_part: array<f32, 256>;

{#- Rows from `first` on, zeros past `count` and past D. -#}
{% macro fill(to, rows, dtype, buf, first, count, start, row_pitch) %}
    for (var i = local; i < {{ rows * wide // 4 }}u; i += 256u) {
        let row = i / {{ wide // 4 }}u;
        let quad = i % {{ wide // 4 }}u;
        var value = vec4<f32>(0.0);
        if ({{ first }} + row < {{ count }} && quad < {{ quads }}u) {
            value = {{ io.load(dtype, buf, "(" ~ start ~ " + " ~ first ~ " + row) * " ~ row_pitch ~ " + column + quad") }};
        }
{{ coop.stage(to, "row * " ~ pitch ~ "u + quad * 4u", "value", has_vectors) }}
    }
{% endmacro %}

// Over the invocations of a query: they have all written when the first barrier is passed.
fn greatest(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    sh_part[local] = v;
    workgroupBarrier();
    let first = local / {{ split }}u * {{ split }}u;
    var high = sh_part[first];
    for (var i = 1u; i < {{ split }}u; i++) {
        high = max(high, sh_part[first + i]);
    }
    return high;
}
fn total(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    sh_part[local] = v;
    workgroupBarrier();
    let first = local / {{ split }}u * {{ split }}u;
    var sum = 0.0;
    for (var i = 0u; i < {{ split }}u; i++) {
        sum += sh_part[first + i];
    }
    return sum;
}

{#- Fragments of a product [block, columns] over `depth`, dealt out to the subgroups. `b` is called with the
    first depth and the first column: a place of the second operand, and how it is loaded. -#}
{% macro product(columns, depth, a, a_pitch, load_b, b, b_down, b_right, b_pitch) %}
{% set beside = columns // t %}
{% set count = block // t * beside %}
{% for turn in range((count + subgroups - 1) // subgroups) %}
    {
        let number = subgroup + {{ turn * subgroups }}u;
        if (number < {{ count }}u) {
            let down = number / {{ beside }}u * {{ t }}u;
            let right = number % {{ beside }}u * {{ t }}u;
            var c = coop_mat{{ t }}x{{ t }}<f32, C>();
{% for k in range(depth // t) %}
            c = coopMultiplyAdd(
                coopLoadT<coop_mat{{ t }}x{{ t }}<f16, A>>({{ coop.place(a, "down * " ~ a_pitch ~ "u + " ~ k * t ~ "u", a_pitch, has_vectors) }}),
                {{ load_b }}<coop_mat{{ t }}x{{ t }}<f16, B>>({{ coop.place(b, k * t * b_down ~ "u + right * " ~ b_right, b_pitch, has_vectors) }}),
                c,
            );
{% endfor %}
            coopStoreT(c, {{ coop.place("sh_s", "down * " ~ s_pitch ~ "u + right", s_pitch, has_vectors) }});
        }
    }
{% endfor %}
{% endmacro %}

{#- From scores to weights, with the maximum, the sum and the output of the keys so far brought to the new maximum. -#}
{% macro weigh() %}
        var high = MASKED;
        workgroupBarrier();
        for (var l = local % {{ split }}u; l < {{ keys_block }}u; l += {{ split }}u) {
            if (j + l < visible) {
                high = max(high, p.factor * {{ "sh_s[(own * " ~ s_pitch ~ "u + l) / 4u][l % 4u]" if has_vectors else "sh_s[own * " ~ s_pitch ~ "u + l]" }});
            }
        }
        high = max(top, greatest(local, high));
        var weights = 0.0;
        for (var l = local % {{ split }}u * 4u; l < {{ keys_block }}u; l += {{ split * 4 }}u) {
            let scores = p.factor * {{ coop.quad("sh_s", "own * " ~ s_pitch ~ "u + l", has_vectors) }};
            let is_seen = vec4<u32>(j + l) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(visible);
            let weight = select(vec4<f32>(0.0), exp2(scores - high), is_seen);
            weights += dot(weight, vec4<f32>(1.0));
{{ coop.stage("sh_p", "own * " ~ p_pitch ~ "u + l", "weight", has_vectors) }}
        }
        let shrink = exp2(top - high);
        top = high;
        sum = sum * shrink + total(local, weights);
{% for i in range(part) %}
        y_{{ i }} *= shrink;
{% endfor %}
{% endmacro %}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let first = id.x * {{ block }}u;
    let own = local / {{ split }}u;
    let query = first + own;
    {
        let column = p.q_offset + id.y * {{ quads }}u;
{{ fill("sh_q", block, q_dtype, "q", "first", "p.queries", "id.z * p.queries", "p.q_pitch") }}
    }
{% for i in range(part) %}
    var y_{{ i }} = vec4<f32>(0.0);
{% endfor %}
    var top = MASKED;
    var sum = 0.0;
    let visible = {% if causal %}min(p.keys, query + 1u){% else %}p.keys{% endif %};
    let end = {% if causal %}min(p.keys, first + {{ block }}u){% else %}p.keys{% endif %};
    for (var j = 0u; j < end; j += {{ keys_block }}u) {
        workgroupBarrier();
        {
            let column = p.k_offset + id.y * {{ quads }}u;
{{ fill("sh_kv", keys_block, k_dtype, "k", "j", "p.keys", "id.z * p.k_rows", "p.k_pitch") }}
        }
        workgroupBarrier();
        // Keys are the columns of the second operand.
{{ product(keys_block, wide, "sh_q", pitch, "coopLoad", "sh_kv", 1, pitch ~ "u", pitch) }}
{{ weigh() }}
        {
            let column = p.v_offset + id.y * {{ quads }}u;
{{ fill("sh_kv", keys_block, v_dtype, "v", "j", "p.keys", "id.z * p.v_rows", "p.v_pitch") }}
        }
{% for from in range(0, wide, 64) %}
        workgroupBarrier();
{{ product([wide - from, 64] | min, keys_block, "sh_p", p_pitch, "coopLoadT", "sh_kv", pitch, "1u + " ~ from ~ "u", pitch) }}
        workgroupBarrier();
{% for i in range(part) %}
        {
            let quad = local % {{ split }}u + {{ i * split }}u;
            if (quad >= {{ from // 4 }}u && quad < {{ [quads, from // 4 + 16] | min }}u) {
                y_{{ i }} += {{ coop.quad("sh_s", "own * " ~ s_pitch ~ "u + quad * 4u - " ~ from ~ "u", has_vectors) }};
            }
        }
{% endfor %}
{% endfor %}
    }
    if (query < p.queries) {
        let ix = (id.z * p.queries + query) * p.y_pitch + id.y * {{ quads }}u;
        let weight = 1.0 / sum;
{% for i in range(part) %}
        if (local % {{ split }}u + {{ i * split }}u < {{ quads }}u) {
            {{ io.store(q_dtype, "y", "ix + local % " ~ split ~ "u + " ~ i * split ~ "u", "y_" ~ i ~ " * weight") }}
        }
{% endfor %}
    }
}
