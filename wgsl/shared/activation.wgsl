{#- Elementwise functions on vec4<f32>. `define(name)` emits what `apply(name, v)` needs. -#}
{% macro define(name) %}
{% if name == "silu" %}
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(-x));
}
{% elif name == "relu" %}
fn activate(x: vec4<f32>) -> vec4<f32> {
    return max(x, vec4<f32>(0.0));
}
{% elif name == "quick_gelu" %}
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(-1.702 * x));
}
{% elif name == "gelu" %}
// Exact GELU; erf after Abramowitz and Stegun 7.1.26, |err| <= 1.5e-7.
fn activate(x: vec4<f32>) -> vec4<f32> {
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let erf = 1.0 - poly * exp(-z * z);
    return 0.5 * x + 0.5 * abs(x) * erf;
}
{% elif name == "soft_clamp3" %}
// tanh through exp of a clamped argument: some drivers' tanh overflows to NaN past 88.
fn activate(x: vec4<f32>) -> vec4<f32> {
    let e = exp(clamp(x, vec4<f32>(-60.0), vec4<f32>(60.0)) * (2.0 / 3.0));
    return 3.0 * (1.0 - 2.0 / (e + 1.0));
}
{% elif name == "signed" %}
fn activate(x: vec4<f32>) -> vec4<f32> {
    return 2.0 * x - 1.0;
}
{% endif %}
{% endmacro %}
{% macro apply(name, v) %}{% if name == "none" %}{{ v }}{% else %}activate({{ v }}){% endif %}{% endmacro %}
