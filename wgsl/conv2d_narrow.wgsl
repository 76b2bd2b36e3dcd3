// 3x3 convolution with stride 1 to at most four channels, a decoder's last: a matrix tile would
// waste most of its columns. One invocation computes {{ pixels }} neighbouring pixels, so that their
// windows share what they read:
// y[n,oy,ox,o] = act(sum_{dy,dx,c} norm(x)[n, oy+dy, ox+dx, c]*W[o,c,dy,dx] + bias + time + residual).
// x [N,H,W,C] in quads; weight [9][C][4], one quad of outputs for every tap and channel.
{% import "shared/io.wgsl" as io %}
{% import "shared/pixel.wgsl" as pixel %}
{% include "shared/product.wgsl" %}
{% set threads = lanes if lanes else 64 %}
{% if norm == "group" %}
var<workgroup> sh_sums: array<vec4<f32>, {{ threads }}>;
{% set scratch = "sh_sums" %}
{% include "shared/norm.wgsl" %}
{% endif %}
{% set open = "normalised(q, " if norm == "group" else "" %}
{% set close = ")" if norm == "group" else "" %}

{#- k0 to k11, the weight quads of a line: k{j} is that of tap j/4 and channel j%4 of quad q. -#}
{% macro line_weights() %}
{% if lanes %}
{% for i in range((12 + lanes - 1) // lanes) %}
            let j{{ i }} = min({{ i * lanes }}u + thread, 11u);
            let w{{ i }} = {{ io.load(w_dtype, "weight", "((dy * 3u + j" ~ i ~ " / 4u) * p.quads1 + q) * 4u + j" ~ i ~ " % 4u") }};
{% endfor %}
{% for j in range(12) %}
            let k{{ j }} = subgroupBroadcast(w{{ j // lanes }}, {{ j % lanes }}u);
{% endfor %}
{% else %}
{% for j in range(12) %}
            let k{{ j }} = {{ io.load(w_dtype, "weight", "((dy * 3u + " ~ (j // 4) ~ "u) * p.quads1 + q) * 4u + " ~ (j % 4) ~ "u") }};
{% endfor %}
{% endif %}
{% endmacro %}

@compute @workgroup_size({{ threads }})
{% if lanes %}
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) thread: u32) {
{% else %}
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
{% endif %}
{% if norm == "group" %}
    // There is one batch row.
    prepare_groups(0u, thread);
{% endif %}
    let runs_per_line = (p.out_w + {{ pixels - 1 }}u) / {{ pixels }}u;
    let runs = p.m / p.out_w * runs_per_line;
    let asked = (group.x + group.z * p.row_groups) * {{ threads }}u + thread;
    // Lanes past the end work along: the others need what they broadcast.
    let run = min(asked, runs - 1u);
    let line = run / runs_per_line;
    let source_line = {{ "p.first_line + line" if has_strip else "line" }};
    let first = run % runs_per_line * {{ pixels }}u;
{% for i in range(pixels) %}
    var acc{{ i }} = vec4<f32>(0.0);
{% endfor %}
    for (var dy = 0u; dy < 3u; dy++) {
        let iy = i32(source_line % p.in_h + dy) - 1;
        let is_line = iy >= 0 && iy < i32(p.in_h);
        let source = select(source_line, u32(i32(source_line + dy) - 1), is_line) * p.in_w;
{% for i in range(pixels + 2) %}
        let ix{{ i }} = i32(first + {{ i }}u) - 1;
        let inside{{ i }} = f32(is_line && ix{{ i }} >= 0 && ix{{ i }} < i32(p.in_w));
        let at{{ i }} = (source + u32(clamp(ix{{ i }}, 0, i32(p.in_w) - 1))) * p.quads1;
{% endfor %}
        for (var q = 0u; q < p.quads1; q++) {
{{ line_weights() }}
{% for i in range(pixels + 2) %}
            {
                let a = inside{{ i }} * {{ open }}{{ io.load(x_dtype, "x", "at" ~ i ~ " + q") }}{{ close }};
{% for dx in range(3) %}
{% if i >= dx and i - dx < pixels %}
                acc{{ i - dx }} = fma(vec4<f32>(a.x), k{{ dx * 4 }}, acc{{ i - dx }});
                acc{{ i - dx }} = fma(vec4<f32>(a.y), k{{ dx * 4 + 1 }}, acc{{ i - dx }});
                acc{{ i - dx }} = fma(vec4<f32>(a.z), k{{ dx * 4 + 2 }}, acc{{ i - dx }});
                acc{{ i - dx }} = fma(vec4<f32>(a.w), k{{ dx * 4 + 3 }}, acc{{ i - dx }});
{% endif %}
{% endfor %}
            }
{% endfor %}
        }
    }
    let bias0 = bias_at(0u);
{% for i in range(pixels) %}
    if (asked < runs && first + {{ i }}u < p.out_w) {
        finish(line * p.out_w + first + {{ i }}u, 0u, acc{{ i }} + bias0);
    }
{% endfor %}
}
