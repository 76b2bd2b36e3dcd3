{#- A 3x3 convolution with stride 1, or each phase of one behind a doubling, for pictures of whole tiles: see the
    comment that it begins with. -#}
{% extends "product_coop.wgsl" %}
{% set window = 2 if has_phases else 3 %}
{% set width = "p.in_w" if has_phases else "p.out_w" %}
{% set halo_pitch = 15 + window %}
{% set halo = (tile_rows // 16 + window - 1) * halo_pitch %}

{% block more %}
// Rows are the pixels of a rectangle, {{ tile_rows // 16 }} lines of 16. All that their windows see, the halo, is fetched once for all
// taps, line by line: pixels beside one another lie beside one another for each tap, too.
{% endblock %}

{% block geometry %}
// Tiles past the last have no rows.
fn first_row_of(tile: u32) -> u32 {
    let tiles = p.positions / {{ tile_rows }}u;
    let within = tile % tiles;
    let across = {{ width }} / 16u;
    return tile / tiles * p.positions + within / across * {{ tile_rows // 16 }}u * {{ width }} + within % across * 16u;
}
fn tile_row(first_row: u32, i: u32) -> u32 {
    return first_row + i / 16u * {{ width }} + i % 16u;
}
// Where in the halo the window of pixel i begins.
fn halo_pixel(i: u32) -> u32 {
    return i / 16u * {{ halo_pitch }}u + i % 16u;
}
// Pixel i of the halo that begins at `corner`: its row in [N*H*W], or -1 outside.
fn halo_source(corner: vec3<i32>, i: u32) -> i32 {
    let y = corner.y + i32(i / {{ halo_pitch }}u);
    let x = corner.z + i32(i % {{ halo_pitch }}u);
    if (y < 0 || x < 0 || y >= i32(p.in_h) || x >= i32(p.in_w)) {
        return -1;
    }
    return i32((u32(corner.x) * p.in_h + u32(y)) * p.in_w + u32(x));
}
{% endblock %}

{% block reduction %}
{% set quads = "p.quads1 + p.quads2" %}
{% set from = slice ~ " * slice_of(" ~ quads ~ ") * 4u" if splits > 1 else "0u" %}
    let corner = output_pixel(min(first_row, p.m - 1u));
{% for r in range((halo + 31) // 32) %}
{{ pixel.source(r, "halo_source(corner, " ~ r * 32 ~ "u + local / 8u)") }}
{% endfor %}
    let channels = ({{ quads }}) * 4u;
    // Weights of the tap to come are on their way while those before are multiplied.
    var tap = 0u;
{% for r in range(b_quads // 8) %}
    var next{{ r }} = weight_quad({{ from }} + line{{ r }} < channels, {{ weight_row }} * channels + {{ from }} + line{{ r }}, own_quad);
{% endfor %}
{{ each_step(quads) }}
{% for r in range((halo + 31) // 32) %}
{{ fetch(r, "x", "p.quads1", "x2" if has_x2 else "", "p.quads2", "pixel", "inside", norm) }}
{% endfor %}
        for (var seen = 0u; seen < {{ taps }}u; seen++) {
            if (seen > 0u) {
                workgroupBarrier();
            }
{% for r in range(b_quads // 8) %}
{{ coop.stage("sh_b", "line" ~ r ~ " * " ~ b_pitch ~ "u + local % " ~ b_quads ~ "u * 4u", "next" ~ r, has_vectors) }}
{% endfor %}
            workgroupBarrier();
            tap = (seen + 1u) % {{ taps }}u;
            let first = (q0 + select(0u, 8u, tap == 0u)) * 4u;
{% for r in range(b_quads // 8) %}
            next{{ r }} = weight_quad(first + line{{ r }} < channels, {{ weight_row }} * channels + first + line{{ r }}, own_quad);
{% endfor %}
            let shift = seen / {{ window }}u * {{ halo_pitch }}u + seen % {{ window }}u;
{{ multiply("(shift + halo_pixel(own_row + ", "u))") }}
        }
    }
{% endblock %}
