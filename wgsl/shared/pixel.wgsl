{#- Index arithmetic of convolutions: output row -> output pixel -> source pixel of a tap. -#}
{#- locate(workgroup) -> its group of rows; output_pixel(row) -> (batch row, y, x) of the window's first tap; source_pixel(corner, tap) ->
    the source's row in [N*H*W], or -1 outside. The virtual size is that after upsampling. Where there
    are phases, rows are those of the picture before its doubling, and `phase` moves the window. -#}
{% macro define(taps, has_upsample, has_phases, has_strip) %}
{% set first_line = "p.first_line" if has_strip else "0u" %}
{% if has_phases %}
// Row group of its phase, which is set here; groups past the last phase have no rows.
fn locate(asked: u32) -> u32 {
    phase = min(asked / p.phase_groups, 3u);
    return select(asked % p.phase_groups, p.phase_groups, asked / p.phase_groups > 3u);
}
fn output_pixel(row: u32) -> vec3<i32> {
    let at = row % p.positions;
    let y = i32({{ first_line }} + at / p.in_w + phase / 2u);
    return vec3<i32>(i32(row / p.positions), y - 1, i32(at % p.in_w + phase % 2u) - 1);
}
fn source_pixel(corner: vec3<i32>, tap: u32) -> i32 {
    let iy = corner.y + i32(tap / 2u);
    let ix = corner.z + i32(tap % 2u);
    if (iy < 0 || ix < 0 || iy >= i32(p.in_h) || ix >= i32(p.in_w)) {
        return -1;
    }
    return i32((u32(corner.x) * p.in_h + u32(iy)) * p.in_w + u32(ix));
}
{% else %}
fn locate(asked: u32) -> u32 {
    return asked;
}
fn output_pixel(row: u32) -> vec3<i32> {
    let at = row % p.positions;
    let corner = vec2<u32>({{ first_line }} + at / p.out_w, at % p.out_w) * p.stride;
    return vec3<i32>(i32(row / p.positions), vec2<i32>(corner) - i32(p.pad));
}
fn source_pixel(corner: vec3<i32>, tap: u32) -> i32 {
    let iy = corner.y + i32(tap / 3u);
    let ix = corner.z + i32(tap % 3u);
    if (iy < 0 || ix < 0 || iy >= i32(p.virtual_h) || ix >= i32(p.virtual_w)) {
        return -1;
    }
{% if has_upsample %}
    let sy = u32(iy) * p.in_h / p.virtual_h;
    let sx = u32(ix) * p.in_w / p.virtual_w;
{% else %}
    let sy = u32(iy);
    let sx = u32(ix);
{% endif %}
    return i32((u32(corner.x) * p.in_h + sy) * p.in_w + sx);
}
{% endif %}
{% endmacro %}
{#- Row r of an invocation: whether its source is inside and where, from what source_pixel said. -#}
{% macro source(r, at) %}
        let source{{ r }} = {{ at }};
        let inside{{ r }} = source{{ r }} >= 0;
        let pixel{{ r }} = u32(max(source{{ r }}, 0));
{% endmacro %}
