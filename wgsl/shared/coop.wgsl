{% import "shared/io.wgsl" as io %}
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

{#- Puts the sums of the 64x64 that are `part` of the tile, `across` side by side, into `sh_c`, for invocations: a
    subgroup owns `fragments` of `t` below and beside one another. -#}
{% macro gather_part(part, across, fragments, t, pitch, has_vectors) %}
    workgroupBarrier();
{% for i in range(fragments[0]) %}
{% for j in range(fragments[1]) %}
    if ((own_row + {{ i * t }}u) / 64u == {{ part // across }}u && (own_column + {{ j * t }}u) / 64u == {{ part % across }}u) {
        coopStoreT(c{{ i }}_{{ j }}, {{ place("sh_c", "(own_row + " ~ i * t ~ "u) % 64u * " ~ pitch ~ "u + (own_column + " ~ j * t ~ "u) % 64u", pitch, has_vectors) }});
    }
{% endfor %}
{% endfor %}
    workgroupBarrier();
{% endmacro %}

{#- Where quad i of an invocation's sums is in `sh_c`. -#}
{% macro own_quad(i, pitch) %}(local / 16u * 4u + {{ i }}u) * {{ pitch }}u + local % 16u * 4u{% endmacro %}

{#- Mean and factor of every row, where rows are normalised over their channels, from the `sums` and squares that
    eight invocations have of each. -#}
{% macro statistics_of_rows(tile_rows, scratch) %}
{% for r in range(tile_rows // 32) %}
    workgroupBarrier();
    {{ scratch }}[local] = vec4<f32>(sums{{ r }}, 0.0, 0.0);
    workgroupBarrier();
    if (local % 8u == 0u) {
        var total = vec4<f32>(0.0);
        for (var i = 0u; i < 8u; i++) {
            total += {{ scratch }}[local + i];
        }
        let mean = total.x / f32(p.quads1 * 4u);
        let variance = total.y / f32(p.quads1 * 4u) - mean * mean;
        // Products are of the values themselves: the mean, too.
        sh_rows[{{ r * 32 }}u + local / 8u] = vec2<f32>(mean + shift{{ r }}, 1.0 / sqrt(max(variance, 0.0) + p.eps));
    }
{% endfor %}
{% endmacro %}

{#- weight_quad(is_inside, row, at) -> quad `at` of the weight's row, zeros if not; a tile is `quads` wide. -#}
{% macro weights(w_dtype, quads) %}
{# Scales of bytes take up as many words as four rows do before the first. #}
{% set first = "4u + " if w_dtype == "i8" else "" %}
fn weight_quad(is_inside: bool, row: u32, at: u32) -> vec4<f16> {
    if (is_inside) {
        let pitch = (p.out_quads + {{ quads - 1 }}u) / {{ quads }}u * {{ quads }}u;
        let ix = ({{ first }}row) * pitch + at;
        return vec4<f16>({{ io.load(w_dtype, "weight", "ix") }});
    }
    return vec4<f16>(0.0);
}
{% endmacro %}
