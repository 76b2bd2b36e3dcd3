{% import "shared/io.wgsl" as io %}
{#- The workgroup tile of the portable tier: 64 rows x 64 columns, 16 deep, 256 invocations of
    4 rows x 4 columns. Rows are staged transposed, so that the inner loop reads along m. -#}
{% macro memory() %}
var<workgroup> sh_a: array<f32, 1024>;
var<workgroup> sh_b: array<vec4<f32>, 256>;
{% endmacro %}

{#- Stages quad `a` of row `local / 4`, K quad `local % 4`, and weight quad `b`, and multiplies. -#}
{% macro multiply() %}
        workgroupBarrier();
        let k_at = (local % 4u) * 256u + local / 4u;
        sh_a[k_at] = a.x;
        sh_a[k_at + 64u] = a.y;
        sh_a[k_at + 128u] = a.z;
        sh_a[k_at + 192u] = a.w;
        sh_b[local] = b;
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let column = sh_b[k * 16u + tx];
            let at = k * 64u + ty * 4u;
{% for i in range(4) %}
            acc{{ i }} = fma(vec4<f32>(sh_a[at + {{ i }}u]), column, acc{{ i }});
{% endfor %}
        }
{% endmacro %}

{#- Adds the products of all quads of `first` and, joined behind it, `second` ("" where there is none), whose row is
    `row`; `inside` is a condition to read at all, `weight_row` the weight's row of the first quad. Norms as in
    `Matmul::variant`: of groups as shared/norm.wgsl, of layers from the row's `shift`, summed up. -#}
{% macro reduce(x_dtype, w_dtype, first, quads1, second, quads2, row, inside, weight_row, norm) %}
{% set open = "normalised(q, " if norm == "group" else "" %}
{% set close = ")" if norm == "group" else "" %}
    for (var q0 = 0u; q0 < {{ quads1 }} + {{ quads2 }}; q0 += 4u) {
        let q = q0 + local % 4u;
        var a = vec4<f32>(0.0);
        if ({{ inside }}q < {{ quads1 }}) {
            a = {{ open }}{{ io.load(x_dtype, first, row ~ " * " ~ quads1 ~ " + q") }}{{ close }};
{% if norm == "layer" %}
            a -= vec4<f32>(shift);
            sum += dot(a, vec4<f32>(1.0));
            squares += dot(a, a);
{% endif %}
        }
{% if second %}
        else if ({{ inside }}q < {{ quads1 }} + {{ quads2 }}) {
            a = {{ open }}{{ io.load(x_dtype, second, row ~ " * " ~ quads2 ~ " + q - " ~ quads1) }}{{ close }};
        }
{% endif %}
        let k = q0 * 4u + local / 16u;
        var b = vec4<f32>(0.0);
        if (k < ({{ quads1 }} + {{ quads2 }}) * 4u) {
            b = {{ io.load(w_dtype, "weight", "(" ~ weight_row ~ " + k) * weight_quads + quad0 + local % 16u") }};
        }
{{ multiply() }}
    }
{% endmacro %}

{#- Stores the tile, row quad by row quad; where the rows are normalised over their channels, each invocation
    brings `sum` and `squares` of its quarter of row `local / 4`, from the row's shift. -#}
{% macro finish(norm, has_statistics) %}
    let quad = quad0 + tx;
    let bias0 = bias_at(quad);
{% if norm == "layer" %}
    let column_sums = column_sums_at(quad);
    workgroupBarrier();
    sh_a[local] = sum;
    sh_a[256u + local] = squares;
    workgroupBarrier();
{% for i in range(4) %}
    let at{{ i }} = (ty * 4u + {{ i }}u) * 4u;
    let mean{{ i }} = (sh_a[at{{ i }}] + sh_a[at{{ i }} + 1u] + sh_a[at{{ i }} + 2u] + sh_a[at{{ i }} + 3u]) / f32(p.quads1 * 4u);
    let square{{ i }} = (sh_a[256u + at{{ i }}] + sh_a[257u + at{{ i }}] + sh_a[258u + at{{ i }}] + sh_a[259u + at{{ i }}]) / f32(p.quads1 * 4u);
    acc{{ i }} = (acc{{ i }} - mean{{ i }} * column_sums) / sqrt(max(square{{ i }} - mean{{ i }} * mean{{ i }}, 0.0) + p.eps);
{% endfor %}
{% endif %}
{% for i in range(4) %}
    {{ "let v" ~ i ~ " = " if has_statistics else "" }}finish(row0 + ty * 4u + {{ i }}u, quad, acc{{ i }} + bias0);
{% endfor %}
{% if has_statistics %}
    if (row0 < p.m) {
        collect(local, row_group, group.y, v0, v1, v2, v3);
    }
{% endif %}
{% endmacro %}
