{% import "shared/io.wgsl" as io %}
{% import "shared/joined.wgsl" as joined %}
// First of three parts of group normalisation: mean and sum of squared deviations of every
// channel over each chunk of `span` positions, by Welford's update in f32.
//
// x: [N, positions, C1] {{ x_dtype }}{% if x2_dtype != "none" %}   x2: [N, positions, C2] {{ x2_dtype }}, joined behind x along channels{% endif %}

// parts: [N, chunks, 2, C] f32: means, then sums of squared deviations
// An invocation owns a quad of channels in one chunk; neighbours own neighbouring quads.

struct Params {
    count: u32,     // N * chunks * quads
    positions: u32,
    span: u32,      // positions in a chunk
    chunks: u32,
    quads: u32,     // quads of all channels
    quads1: u32,    // quads of x
    width: u32,     // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
{% if x2_dtype != "none" %}
@group(0) @binding(2) var<storage, read> x2: {{ io.quads(x2_dtype) }};
{% endif %}

{% macro walk(dtype, buf, q, stride) %}
        for (var i = 0u; i < length; i++) {
            let v = {{ io.load(dtype, buf, "(start + i) * " ~ stride ~ " + " ~ q) }};
            let d = v - mean;
            mean += d / f32(i + 1u);
            squares += d * (v - mean);
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
    let begin = block % p.chunks * p.span;
    let start = block / p.chunks * p.positions + begin;
    let length = min(p.span, p.positions - begin);
    var mean = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
{{ joined.each(walk) }}
    parts[(2u * block) * p.quads + q] = mean;
    parts[(2u * block + 1u) * p.quads + q] = squares;
}
