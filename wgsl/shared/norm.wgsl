{#- Group normalisation of a product's input while it is read, for kernels with workgroup memory: means and
    factors of all groups from the statistics of every channel, then `normalised(q, v)`. -#}
{#- Include: needs the defines of `Matmul::variant` and shared/product.wgsl; `scratch`, quads in workgroup
    memory, one for each of `threads` invocations. -#}
@group(0) @binding(9) var<storage, read> statistics: array<f32>;
{% if has_x2 %}
@group(0) @binding(10) var<storage, read> statistics2: array<f32>;
{% endif %}
// Scale [C], then shift [C].
@group(0) @binding(11) var<storage, read> norm: array<vec4<f32>>;

// Mean of each group, and 1/sqrt(var + eps).
var<workgroup> sh_groups: array<vec2<f32>, 64>;

// Mean (0) or sum of squared deviations (1) of a channel of batch row n.
fn statistic(n: u32, which: u32, c: u32) -> f32 {
{% if has_x2 %}
    if (c >= p.quads1 * 4u) {
        return statistics2[(2u * n + which) * p.quads2 * 4u + c - p.quads1 * 4u];
    }
{% endif %}
    return statistics[(2u * n + which) * p.quads1 * 4u + c];
}

// The sum of `v` over the eight invocations that share a group.
fn of_eight(thread: u32, v: f32) -> f32 {
    workgroupBarrier();
    {{ scratch }}[thread].x = v;
    workgroupBarrier();
    let first = thread / 8u * 8u;
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += {{ scratch }}[first + i].x;
    }
    return sum;
}

// Chan's combination of a group's channels, all of which have as many values. In uniform control flow.
fn prepare_groups(n: u32, thread: u32) {
    let positions = f32(p.norm_positions);
    for (var first = 0u; first < p.groups; first += {{ threads // 8 }}u) {
        let g = first + thread / 8u;
        let is_group = g < p.groups;
        var sum = 0.0;
        for (var i = thread % 8u; i < p.group_c && is_group; i += 8u) {
            sum += statistic(n, 0u, g * p.group_c + i);
        }
        let mean = of_eight(thread, sum) / f32(p.group_c);
        var squares = 0.0;
        for (var i = thread % 8u; i < p.group_c && is_group; i += 8u) {
            let d = statistic(n, 0u, g * p.group_c + i) - mean;
            squares += statistic(n, 1u, g * p.group_c + i) + positions * d * d;
        }
        let variance = of_eight(thread, squares) / (f32(p.group_c) * positions);
        if (is_group && thread % 8u == 0u) {
            sh_groups[g] = vec2<f32>(mean, 1.0 / sqrt(variance + p.eps));
        }
    }
    workgroupBarrier();
}

// Channels 4q to 4q+3: they lie in one group or two.
fn normalised(q: u32, v: vec4<f32>) -> vec4<f32> {
    let c = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let g = c.x / p.group_c;
    let here = sh_groups[g];
    let next = sh_groups[min(g + 1u, p.groups - 1u)];
    let is_next = c >= vec4<u32>((g + 1u) * p.group_c);
    let mean = select(vec4<f32>(here.x), vec4<f32>(next.x), is_next);
    let factor = select(vec4<f32>(here.y), vec4<f32>(next.y), is_next);
    let u = (v - mean) * factor * norm[q] + norm[p.quads1 + p.quads2 + q];
{% if norm_silu %}
    return u / (1.0 + exp(-u));
{% else %}
    return u;
{% endif %}
}
