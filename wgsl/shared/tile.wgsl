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
