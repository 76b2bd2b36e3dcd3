{% import "shared/io.wgsl" as io %}
{% import "shared/joined.wgsl" as joined %}
{% import "shared/activation.wgsl" as activation %}
// Group normalisation for CPU adapters in one dispatch, with its activation and the joining of two inputs.
//
//   y[n, i, c] = act((x[n, i, c] - mean_g) / sqrt(var_g + eps) * weight[c] + bias[c])
//
// x: [N, positions, C1] {{ x_dtype }}{% if x2_dtype != "none" %}   x2: [N, positions, C2] {{ x2_dtype }}, joined behind x along channels{% endif %}

// weight, bias: [C padded with zeros] f32   y: [N, positions, C] {{ y_dtype }}
// A workgroup, one subgroup, owns the fewest groups that fill whole quads of channels, four at most, of a batch row.
// Each lane takes every {{ lanes }}th position. Statistics in f32: Welford's update over a lane's positions, Chan's
// combination over lanes, then over the channels of a group.

struct Params {
    bundle: u32,    // quads of channels that a workgroup owns
    group_c: u32,   // channels in a group
    c: u32,
    quads: u32,     // quads of all channels
    quads1: u32,    // quads of x
    positions: u32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: {{ io.quads(y_dtype) }};
{% if x2_dtype != "none" %}
@group(0) @binding(4) var<storage, read> x2: {{ io.quads(x2_dtype) }};
{% endif %}

{{ activation.define(activation_name) }}
{% macro measure(dtype, buf, q, stride) %}
            var seen = 0.0;
            for (var i = lane; i < p.positions; i += {{ lanes }}u) {
                let v = {{ io.load(dtype, buf, "(start + i) * " ~ stride ~ " + " ~ q) }};
                let d = v - mean;
                seen += 1.0;
                mean += d / seen;
                squares += d * (v - mean);
            }
{% endmacro %}
{% macro apply(dtype, buf, q, stride) %}
            for (var i = lane; i < p.positions; i += {{ lanes }}u) {
                let v = {{ io.load(dtype, buf, "(start + i) * " ~ stride ~ " + " ~ q) }};
                let value = {{ activation.apply(activation_name, "(v - mean) * scale + shift") }};
                {{ io.store(y_dtype, "y", "(start + i) * p.quads + q", "value") }}
            }
{% endmacro %}

@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let first = group.x * p.bundle;
    let behind = min(first + p.bundle, p.quads);
    let start = group.y * p.positions;
    let size = f32(p.positions);
    let own = f32((p.positions + {{ lanes - 1 }}u - lane) / {{ lanes }}u);
    // Of the groups that are done, then of the one that is not.
    var means = vec4<f32>(0.0);
    var factors = vec4<f32>(0.0);
    var done = 0u;
    var channels = 0u;
    var centre = 0.0;
    var spread = 0.0;
    for (var q = first; q < behind; q++) {
        var mean = vec4<f32>(0.0);
        var squares = vec4<f32>(0.0);
{{ joined.each(measure) }}
        // From a lane's mean on: one far from zero costs no digits.
        let near = subgroupBroadcast(mean, 0u);
        let whole = near + subgroupAdd(own * (mean - near)) / size;
        let off = mean - whole;
        let deviations = subgroupAdd(squares + own * off * off);
{% for k in range(4) %}
        if (4u * q + {{ k }}u < p.c) {
            channels++;
            let d = whole[{{ k }}] - centre;
            centre += d / f32(channels);
            spread += deviations[{{ k }}] + size * d * (whole[{{ k }}] - centre);
            if (channels == p.group_c) {
                let is_this = vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(done);
                let variance = spread / (size * f32(channels));
                means = select(means, vec4<f32>(centre), is_this);
                factors = select(factors, vec4<f32>(1.0 / sqrt(variance + p.eps)), is_this);
                done++;
                channels = 0u;
                centre = 0.0;
                spread = 0.0;
            }
        }
{% endfor %}
    }
    for (var q = first; q < behind; q++) {
        // Padding behind the last channel has weights of zero.
        let c = 4u * (q - first);
        let owner = min(vec4<u32>(c, c + 1u, c + 2u, c + 3u) / p.group_c, vec4<u32>(3u));
        let mean = vec4<f32>(means[owner.x], means[owner.y], means[owner.z], means[owner.w]);
        let scale = vec4<f32>(factors[owner.x], factors[owner.y], factors[owner.z], factors[owner.w]) * weight[q];
        let shift = bias[q];
{{ joined.each(apply) }}
    }
}
