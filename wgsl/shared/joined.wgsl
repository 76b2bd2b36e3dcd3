{#- Two inputs that are joined along channels: reading the one that has quad `q` of both together, in a kernel with
    `x`, `x2` unless x2_dtype is "none", and `p.quads` and `p.quads1`, the quads of both and of x. -#}

{#- The statements of `body`, a macro of storage type, buffer, quad and quads in a row, for whichever it is. -#}
{% macro each(body) %}
    {% if x2_dtype == "none" %}
    {
{{ body(x_dtype, "x", "q", "p.quads1") }}
    }
    {% else %}
    if (q < p.quads1) {
{{ body(x_dtype, "x", "q", "p.quads1") }}
    } else {
{{ body(x2_dtype, "x2", "(q - p.quads1)", "(p.quads - p.quads1)") }}
    }
    {% endif %}
{% endmacro %}
