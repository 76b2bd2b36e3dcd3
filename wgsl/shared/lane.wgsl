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
{% for j in range(2) %}
{% set pair = "at / 2u + " ~ ((2 * c + j) * lanes) ~ "u + lane" %}
{% if w_dtype == "f16" %}
        // One read of four words: CPU adapters take it lane by lane, which costs more than the words do.
        let pair{{ j }} = weight[{{ pair }}];
        let b{{ 2 * j }} = vec4<f32>(unpack2x16float(pair{{ j }}.x), unpack2x16float(pair{{ j }}.y));
        let b{{ 2 * j + 1 }} = vec4<f32>(unpack2x16float(pair{{ j }}.z), unpack2x16float(pair{{ j }}.w));
{% else %}
        let pair{{ j }} = ({{ pair }}) * 2u;
        let b{{ 2 * j }} = {{ io.load(w_dtype, "weight", "pair" ~ j) }};
        let b{{ 2 * j + 1 }} = {{ io.load(w_dtype, "weight", "pair" ~ j ~ " + 1u") }};
{% endif %}
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
            {{ acc }} = fma(a.wwww, kw, fma(a.zzzz, kz, fma(a.yyyy, ky, fma(a.xxxx, kx, {{ acc }}))));
        }
{% endfor %}
{% endfor %}
        }
{% endfor %}
{% endmacro %}

{#- The first weight quad of the panel of workgroup `group.y`: behind the scales of bytes, a word a column. -#}
{% macro panel(lanes, quads, w_dtype, panel_quads) %}{% if w_dtype == "i8" %}((p.out_quads + {{ lanes * quads - 1 }}u) / {{ lanes * quads }}u + group.y * {{ panel_quads }}) * {{ 4 * quads * lanes }}u{% else %}group.y * {{ panel_quads }} * {{ 4 * quads * lanes }}u{% endif %}{% endmacro %}

{#- Stores the tile of the workgroup whose first row is `first_row`, from column quad `quad` on. Where the
    rows are normalised over their channels, lane l knows `mean` (from the row's shift) and `factor` of its own.
    Rows behind the last are computed as copies of it, and stored there once more. -#}
{% macro store(rows_per_lane, lanes, quads, cuts_quads, w_dtype, norm) %}
{% for c in range(quads) %}
    let bias{{ c }} = bias_at(quad + {{ c }}u);
{% if w_dtype == "i8" %}
    let scale{{ c }} = scale_at(quad + {{ c }}u);
{% endif %}
{% if norm == "layer" %}
    let column_sums{{ c }} = column_sums_at(quad + {{ c }}u);
{% endif %}
{% endfor %}
{% if rows_per_lane > 1 %}
    // One group of rows at a time, whose sums the next one's replace: the code for all of them would be longer than
    // that of the product, and drivers would take twice as long to compile it.
    for (var r = 0u; r < {{ rows_per_lane }}u; r++) {
    let row = first_row + r * {{ lanes }}u;
{% else %}
    let row = first_row;
{% endif %}
{% if norm == "layer" %}
{% for l in range(lanes) %}
    let mean_of{{ l }} = subgroupBroadcast(mean0, {{ l }}u);
    let factor_of{{ l }} = subgroupBroadcast(factor0, {{ l }}u);
{% endfor %}
{% endif %}
{% for l in range(lanes) %}
    let row_of{{ l }} = min(row + {{ l }}u, p.m - 1u);
    let before{{ l }} = first_quad(row_of{{ l }});
{% endfor %}
    if (quad < p.out_quads) {
{% for l in range(lanes) %}
{% for c in range(quads) %}
{% set acc = "acc" ~ l ~ "_" ~ c ~ (" * scale" ~ c if w_dtype == "i8" else "") %}
{% set sum = "(" ~ acc ~ " - mean_of" ~ l ~ " * column_sums" ~ c ~ ") * factor_of" ~ l if norm == "layer" else acc %}
        {{ "if (quad + " ~ c ~ "u < p.out_quads) { " if cuts_quads }}put(row_of{{ l }}, before{{ l }}, quad + {{ c }}u, {{ sum }} + bias{{ c }});{{ " }" if cuts_quads }}
{% endfor %}
{% endfor %}
    }
{% if rows_per_lane > 1 %}
{% for r in range(1, rows_per_lane) %}
{% for l in range(lanes) %}
{% for c in range(quads) %}
    acc{{ (r - 1) * lanes + l }}_{{ c }} = acc{{ r * lanes + l }}_{{ c }};
{% endfor %}
{% endfor %}
{% if norm == "layer" %}
    mean{{ r - 1 }} = mean{{ r }};
    factor{{ r - 1 }} = factor{{ r }};
{% endif %}
{% endfor %}
    }
{% endif %}
{% endmacro %}
