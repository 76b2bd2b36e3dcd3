{#- The register tile of the lane tier: `rows_per_lane·lanes` rows × `4·quads` columns a lane.
    Each lane fetches its own rows and its own columns; the subgroup broadcasts the rows. -#}
{% import "shared/io.wgsl" as io %}

{% macro declare(rows, quads) %}
{% for i in range(rows) %}
{% for c in range(quads) %}
    var acc{{ i }}_{{ c }} = vec4<f32>(0.0);
{% endfor %}
{% endfor %}
{% endmacro %}

{#- One quad of K: a0…, one quad a lane and row group, times the weight quads at `at`. -#}
{% macro multiply(rows_per_lane, lanes, quads, w_dtype) %}
{% for c in range(quads) %}
        {
{% for j in range(4) %}
        let b{{ j }} = {{ io.load(w_dtype, "weight", "at + " ~ ((4 * c + j) * lanes) ~ "u + lane") }};
{% endfor %}
        let kx = vec4<f32>(b0.x, b1.x, b2.x, b3.x);
        let ky = vec4<f32>(b0.y, b1.y, b2.y, b3.y);
        let kz = vec4<f32>(b0.z, b1.z, b2.z, b3.z);
        let kw = vec4<f32>(b0.w, b1.w, b2.w, b3.w);
{% for r in range(rows_per_lane) %}
{% for l in range(lanes) %}
{% set acc = "acc" ~ (r * lanes + l) ~ "_" ~ c %}
        {
            let a = subgroupBroadcast(a{{ r }}, {{ l }}u);
            var s = {{ acc }};
            s = fma(vec4<f32>(a.x), kx, s);
            s = fma(vec4<f32>(a.y), ky, s);
            s = fma(vec4<f32>(a.z), kz, s);
            {{ acc }} = fma(vec4<f32>(a.w), kw, s);
        }
{% endfor %}
{% endfor %}
        }
{% endfor %}
{% endmacro %}

{#- The first weight quad of the panel of workgroup `group.y`: behind the scales of bytes, a word a column. -#}
{% macro panel(lanes, quads, w_dtype, panel_quads) %}{% if w_dtype == "i8" %}((p.out_quads + {{ lanes * quads - 1 }}u) / {{ lanes * quads }}u + group.y * {{ panel_quads }}) * {{ 4 * quads * lanes }}u{% else %}group.y * {{ panel_quads }} * {{ 4 * quads * lanes }}u{% endif %}{% endmacro %}

{#- Stores the tile of the workgroup whose first row is `first_row`, from column quad `quad` on. Where the
    rows are normalised over their channels, lane l knows `mean` (from the row's shift) and `factor` of its own. -#}
{% macro store(rows_per_lane, lanes, quads, w_dtype, norm) %}
{% for c in range(quads) %}
    let bias{{ c }} = bias_at(quad + {{ c }}u);
{% if w_dtype == "i8" %}
    let scale{{ c }} = scale_at(quad + {{ c }}u);
{% endif %}
{% if norm == "layer" %}
    let column_sums{{ c }} = column_sums_at(quad + {{ c }}u);
{% endif %}
{% endfor %}
{% for r in range(rows_per_lane) %}
{% for l in range(lanes) %}
{% set i = r * lanes + l %}
{% if norm == "layer" %}
    let mean_of{{ i }} = subgroupBroadcast(mean{{ r }}, {{ l }}u);
    let factor_of{{ i }} = subgroupBroadcast(factor{{ r }}, {{ l }}u);
{% endif %}
{% for c in range(quads) %}
{% set acc = "acc" ~ i ~ "_" ~ c ~ (" * scale" ~ c if w_dtype == "i8" else "") %}
{% set sum = "(" ~ acc ~ " - mean_of" ~ i ~ " * column_sums" ~ c ~ ") * factor_of" ~ i if norm == "layer" else acc %}
    finish(first_row + {{ i }}u, quad + {{ c }}u, {{ sum }} + bias{{ c }});
{% endfor %}
{% endfor %}
{% endfor %}
{% endmacro %}
