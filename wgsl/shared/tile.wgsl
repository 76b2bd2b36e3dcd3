{% import "shared/io.wgsl" as io %}
{#- The workgroup tile of the portable tier: `tile_rows` rows x 64 columns, 16 deep, invocations of 4 or 8 rows x 4
    columns. Rows are staged transposed, so that the inner loop reads along m. An invocation stages `row_count`
    quads of rows, quad `local % 4` of rows `local / 4 + r * threads / 4`, and as many of weights as it takes. -#}
{% macro memory(tile_rows) %}
var<workgroup> sh_a: array<f32, {{ 16 * tile_rows }}>;
var<workgroup> sh_b: array<vec4<f32>, 256>;
{% endmacro %}

{% macro declare(tile_rows, threads) %}
{% for i in range(tile_rows * 16 // threads) %}
    var acc{{ i }} = vec4<f32>(0.0);
{% endfor %}
{% endmacro %}

{#- Stages quads a0… of rows and b0… of weights, and multiplies. -#}
{% macro multiply(tile_rows, threads) %}
{% set rows = tile_rows * 16 // threads %}
        workgroupBarrier();
        let k_at = (local % 4u) * {{ 4 * tile_rows }}u + local / 4u;
{% for r in range(tile_rows * 4 // threads) %}
        sh_a[k_at + {{ r * threads // 4 }}u] = a{{ r }}.x;
        sh_a[k_at + {{ r * threads // 4 + tile_rows }}u] = a{{ r }}.y;
        sh_a[k_at + {{ r * threads // 4 + 2 * tile_rows }}u] = a{{ r }}.z;
        sh_a[k_at + {{ r * threads // 4 + 3 * tile_rows }}u] = a{{ r }}.w;
{% endfor %}
{% for r in range(256 // threads) %}
        sh_b[{{ r * threads }}u + local] = b{{ r }};
{% endfor %}
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let column = sh_b[k * 16u + tx];
            let at = k * {{ tile_rows }}u + ty * {{ rows }}u;
{% for i in range(rows) %}
            acc{{ i }} = fma(vec4<f32>(sh_a[at + {{ i }}u]), column, acc{{ i }});
{% endfor %}
        }
{% endmacro %}

{#- Adds the products of all quads of `first` and, joined behind it, `second` ("" where there is none). Row r of this
    invocation is `row ~ r`, read where `inside ~ r` holds, or always; `weight_row` is the weight's row of the first
    quad; scales of bytes take up as many words as four rows do before the first. Norms as in `Matmul::variant`: of groups as shared/norm.wgsl, of layers from the row's `shift`, summed up.
    Of several `splits`, this workgroup adds those of its slice, as in shared/split.wgsl. -#}
{% macro reduce(tile_rows, threads, splits, x_dtype, w_dtype, first, quads1, second, quads2, row, inside, weight_row, norm) %}
{% set open = "normalised(q, " if norm == "group" else "" %}
{% set close = ")" if norm == "group" else "" %}
{% set first_row = "4u + " if w_dtype == "i8" else "" %}
{% set all = quads1 ~ " + " ~ quads2 %}
{% if splits > 1 %}
{% set slice = "(group.y % " ~ splits ~ "u)" %}
    for (var q0 = {{ slice }} * slice_of({{ all }}); q0 < min({{ all }}, ({{ slice }} + 1u) * slice_of({{ all }})); q0 += 4u) {
{% else %}
    for (var q0 = 0u; q0 < {{ all }}; q0 += 4u) {
{% endif %}
        let q = q0 + local % 4u;
{% for r in range(tile_rows * 4 // threads) %}
{% set guard = inside ~ r ~ " && " if inside else "" %}
        var a{{ r }} = vec4<f32>(0.0);
        if ({{ guard }}q < {{ quads1 }}) {
            a{{ r }} = {{ open }}{{ io.load(x_dtype, first, row ~ r ~ " * " ~ quads1 ~ " + q") }}{{ close }};
{% if norm == "layer" %}
            a{{ r }} -= vec4<f32>(shift{{ r }});
            sum{{ r }} += dot(a{{ r }}, vec4<f32>(1.0));
            squares{{ r }} += dot(a{{ r }}, a{{ r }});
{% endif %}
        }
{% if second %}
        else if ({{ guard }}q < {{ quads1 }} + {{ quads2 }}) {
            a{{ r }} = {{ open }}{{ io.load(x_dtype, second, row ~ r ~ " * " ~ quads2 ~ " + q - " ~ quads1) }}{{ close }};
        }
{% endif %}
{% endfor %}
{% for r in range(256 // threads) %}
        let k{{ r }} = q0 * 4u + {{ r * threads // 16 }}u + local / 16u;
        var b{{ r }} = vec4<f32>(0.0);
        if (k{{ r }} < ({{ quads1 }} + {{ quads2 }}) * 4u) {
            b{{ r }} = {{ io.load(w_dtype, "weight", "(" ~ first_row ~ weight_row ~ " + k" ~ r ~ ") * weight_quads + quad0 + local % 16u") }};
        }
{% endfor %}
{{ multiply(tile_rows, threads) }}
    }
{% endmacro %}

{#- Stores the tile, row quad by row quad, with the sums of all `splits` in it; where the rows are normalised over their channels, each invocation
    brings `sum ~ r` and `squares ~ r` of its quarter of each of its rows, from the row's shift. -#}
{% macro finish(tile_rows, threads, splits, w_dtype, norm, has_statistics) %}
{% set rows = tile_rows * 16 // threads %}
{% if splits > 1 %}
{% for i in range(rows) %}
    leave_sum(group.y % {{ splits }}u, {{ i }}u, local, acc{{ i }});
{% endfor %}
    count_slice(local);
    if (workgroupUniformLoad(&sh_is_last) == 0u) {
        return;
    }
    storageBarrier();
{% for i in range(rows) %}
    acc{{ i }} = whole_sum({{ i }}u, local);
{% endfor %}
{% endif %}
    let quad = quad0 + tx;
    let bias0 = bias_at(quad);
{% if w_dtype == "i8" %}
    let scale = scale_at(quad);
{% for i in range(rows) %}
    acc{{ i }} *= scale;
{% endfor %}
{% endif %}
{% if norm == "layer" %}
    let column_sums = column_sums_at(quad);
    workgroupBarrier();
{% for r in range(tile_rows * 4 // threads) %}
    sh_a[{{ r * threads }}u + local] = sum{{ r }};
    sh_a[{{ tile_rows * 4 + r * threads }}u + local] = squares{{ r }};
{% endfor %}
    workgroupBarrier();
{% for i in range(rows) %}
    let at{{ i }} = (ty * {{ rows }}u + {{ i }}u) * 4u;
    let also{{ i }} = at{{ i }} + {{ tile_rows * 4 }}u;
    let mean{{ i }} = (sh_a[at{{ i }}] + sh_a[at{{ i }} + 1u] + sh_a[at{{ i }} + 2u] + sh_a[at{{ i }} + 3u]) / f32(p.quads1 * 4u);
    let square{{ i }} = (sh_a[also{{ i }}] + sh_a[also{{ i }} + 1u] + sh_a[also{{ i }} + 2u] + sh_a[also{{ i }} + 3u]) / f32(p.quads1 * 4u);
    acc{{ i }} = (acc{{ i }} - mean{{ i }} * column_sums) / sqrt(max(square{{ i }} - mean{{ i }} * mean{{ i }}, 0.0) + p.eps);
{% endfor %}
{% endif %}
{% for i in range(rows) %}
    {{ "let v" ~ i ~ " = " if has_statistics else "" }}finish(first_row + ty * {{ rows }}u + {{ i }}u, quad, acc{{ i }} + bias0);
{% endfor %}
{% if has_statistics %}
    if (first_row < p.m) {
        collect(local, row_group, column, v0, v1, v2, v3);
    }
{% endif %}
{% endmacro %}
