{#- What follows a matrix product: bias, time embedding, residual, activation, store.
    Expects p.m (rows), p.positions (rows of a batch row), p.out_quads and p.out_c. -#}
{% import "shared/io.wgsl" as io %}
{% import "shared/activation.wgsl" as act %}

{#- Bindings from index `first` on. -#}
{% macro bindings(first, has_bias, has_time, has_residual, time_dtype, residual_dtype) %}
{% if has_bias %}
@group(0) @binding({{ first }}) var<storage, read> bias: array<vec4<f32>>;
{% endif %}
{% if has_time %}
@group(0) @binding({{ first + 1 }}) var<storage, read> time_embedding: {{ io.quads(time_dtype) }};
{% endif %}
{% if has_residual %}
@group(0) @binding({{ first + 2 }}) var<storage, read> residual: {{ io.quads(residual_dtype) }};
{% endif %}
{% endmacro %}

{#- fn bias_at(quad), to be read once for all rows of a tile, and fn finish(row, quad, sum): one
    quad of one row, whose sum has the bias. -#}
{% macro define(has_bias, has_time, has_residual, time_dtype, residual_dtype, out_dtype, activation) %}
{{ act.define(activation) }}
fn bias_at(quad: u32) -> vec4<f32> {
{% if has_bias %}
    return bias[quad];
{% else %}
    return vec4<f32>(0.0);
{% endif %}
}
fn finish(row: u32, quad: u32, sum: vec4<f32>) {
    if (row >= p.m || quad >= p.out_quads) {
        return;
    }
    var v = sum;
{% if has_time %}
    v += {{ io.load(time_dtype, "time_embedding", "(row / p.positions) * p.out_quads + quad") }};
{% endif %}
{% if has_residual %}
    v += {{ io.load(residual_dtype, "residual", "row * p.out_quads + quad") }};
{% endif %}
    v = {{ act.apply(activation, "v") }};
    // Padding channels stay zero whatever was added.
    let channel = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    v = select(vec4<f32>(0.0), v, channel < vec4<u32>(p.out_c));
    {{ io.store(out_dtype, "y", "row * p.out_quads + quad", "v") }}
}
{% endmacro %}
