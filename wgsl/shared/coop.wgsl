{#- Operands of cooperative matrices in workgroup memory. Places and pitches count scalars and are multiples of
    four; the arrays hold vectors where the language can point a fragment to them. -#}

{#- The type of an array of `count` scalars of `type`. -#}
{% macro memory(type, count, has_vectors) %}{% if has_vectors %}array<vec4<{{ type }}>, {{ count // 4 }}>{% else %}array<{{ type }}, {{ count }}>{% endif %}{% endmacro %}

{#- The arguments that place a fragment at `at` of `buf`. -#}
{% macro place(buf, at, pitch, has_vectors) %}{% if has_vectors %}&{{ buf }}[({{ at }}) / 4u], {{ pitch // 4 }}u{% else %}&{{ buf }}[{{ at }}], {{ pitch }}u{% endif %}{% endmacro %}

{#- Stores the quad `v` of f32 as halves at `at` of `buf`. -#}
{% macro stage(buf, at, v, has_vectors) %}
{% if has_vectors %}
            {{ buf }}[({{ at }}) / 4u] = vec4<f16>({{ v }});
{% else %}
{% for i in range(4) %}
            {{ buf }}[{{ at }} + {{ i }}u] = f16({{ v }}[{{ i }}]);
{% endfor %}
{% endif %}
{% endmacro %}

{#- The quad of f32 at `at` of `buf`. -#}
{% macro quad(buf, at, has_vectors) %}{% if has_vectors %}{{ buf }}[({{ at }}) / 4u]{% else %}vec4<f32>({{ buf }}[{{ at }}], {{ buf }}[{{ at }} + 1u], {{ buf }}[{{ at }} + 2u], {{ buf }}[{{ at }} + 3u]){% endif %}{% endmacro %}
