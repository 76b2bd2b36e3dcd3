{#- The register tile of the lane tier: `rows_per_lane·lanes` rows × 4 columns a lane.
    Each lane fetches its own rows and its own columns; the subgroup broadcasts the rows. -#}
{% import "shared/io.wgsl" as io %}

{% macro declare(rows) %}
{% for i in range(rows) %}
    var acc{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% endmacro %}

{#- One quad of K: a0…, one quad a lane and row group, times the weight quads at `at`. -#}
{% macro multiply(rows_per_lane, lanes, w_dtype) %}
{% for j in range(4) %}
        let b{{ j }} = {{ io.load(w_dtype, "weight", "at + " ~ (j * lanes) ~ "u + lane") }};
{% endfor %}
        let kx = vec4<f32>(b0.x, b1.x, b2.x, b3.x);
        let ky = vec4<f32>(b0.y, b1.y, b2.y, b3.y);
        let kz = vec4<f32>(b0.z, b1.z, b2.z, b3.z);
        let kw = vec4<f32>(b0.w, b1.w, b2.w, b3.w);
{% for r in range(rows_per_lane) %}
{% for l in range(lanes) %}
        {
            let a = subgroupBroadcast(a{{ r }}, {{ l }}u);
            var s = acc{{ r * lanes + l }};
            s = fma(vec4<f32>(a.x), kx, s);
            s = fma(vec4<f32>(a.y), ky, s);
            s = fma(vec4<f32>(a.z), kz, s);
            acc{{ r * lanes + l }} = fma(vec4<f32>(a.w), kw, s);
        }
{% endfor %}
{% endfor %}
{% endmacro %}
