{% import "shared/io.wgsl" as io %}
{% import "shared/joined.wgsl" as joined %}
{% import "shared/activation.wgsl" as activation %}
// Last of three parts of group normalisation, with its activation and the joining of two inputs.
//
//   y[n, i, c] = act((x[n, i, c] - mean[n, c]) * factor[n, c] + bias[c])
//
// x: [N, positions, C1] {{ x_dtype }}{% if x2_dtype != "none" %}   x2: [N, positions, C2] {{ x2_dtype }}, joined behind x along channels{% endif %}

// factors: [N, 1, 2, C] f32: means, then factors   bias: [C padded with zeros] f32
// y: [N, positions, C] {{ y_dtype }}
// An invocation owns a quad of channels at `span` positions; neighbours own neighbouring quads.

struct Params {
    count: u32,     // N * strips * quads
    positions: u32,
    span: u32,      // positions in a strip
    strips: u32,
    quads: u32,     // quads of all channels
    quads1: u32,    // quads of x
    width: u32,     // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: {{ io.quads(y_dtype) }};
{% if x2_dtype != "none" %}
@group(0) @binding(4) var<storage, read> x2: {{ io.quads(x2_dtype) }};
{% endif %}

{{ activation.define(activation_name) }}
{% macro walk(dtype, buf, q, stride) %}
        for (var i = start; i < end; i++) {
            let v = {{ io.load(dtype, buf, "i * " ~ stride ~ " + " ~ q) }};
            let value = {{ activation.apply(activation_name, "(v - mean) * scale + shift") }};
            {{ io.store(y_dtype, "y", "i * p.quads + q", "value") }}
        }
{% endmacro %}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let thread = id.y * p.width + id.x;
    if (thread >= p.count) {
        return;
    }
    let q = thread % p.quads;
    let block = thread / p.quads;
    let n = block / p.strips;
    let begin = block % p.strips * p.span;
    let start = n * p.positions + begin;
    let end = start + min(p.span, p.positions - begin);
    let mean = factors[(2u * n) * p.quads + q];
    let scale = factors[(2u * n + 1u) * p.quads + q];
    let shift = bias[q];
{{ joined.each(walk) }}
}
