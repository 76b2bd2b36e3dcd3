{#- Reading and writing four channels at a time, whatever the storage type.
    f16 is stored as two halves in a u32 and unpacked to f32: every adapter can, and on CPU
    adapters it is faster than native f16 because it halves the loads. Weights may be bytes, four in a u32: whole
    numbers, to be multiplied by the scale of their column when they are summed up. -#}

{#- Element type of a storage array of quads. -#}
{% macro quads(dtype) %}{% if dtype == "f16" %}array<vec2<u32>>{% elif dtype == "i8" %}array<u32>{% else %}array<vec4<f32>>{% endif %}{% endmacro %}

{#- The quad at index `ix` of `buf` as vec4<f32>. -#}
{% macro load(dtype, buf, ix) %}{% if dtype == "f16" %}vec4<f32>(unpack2x16float({{ buf }}[{{ ix }}].x), unpack2x16float({{ buf }}[{{ ix }}].y)){% elif dtype == "i8" %}vec4<f32>(unpack4xI8({{ buf }}[{{ ix }}])){% else %}{{ buf }}[{{ ix }}]{% endif %}{% endmacro %}

{#- A statement that stores vec4<f32> `v`. -#}
{% macro store(dtype, buf, ix, v) %}{% if dtype == "f16" %}{{ buf }}[{{ ix }}] = vec2<u32>(pack2x16float(({{ v }}).xy), pack2x16float(({{ v }}).zw));{% else %}{{ buf }}[{{ ix }}] = {{ v }};{% endif %}{% endmacro %}
