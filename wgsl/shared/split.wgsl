{#- Include: a tile whose reduction several workgroups share, a slice of the channels each. They leave their sums in
    memory, and the last to be done adds up all slices in their order: the same bits whoever that is. Needs
    shared/product.wgsl, `step` (slices are so many quads of channels, or a multiple), `tile_quads` (of columns),
    `split_quads` (of sums an invocation has) and `threads`. Slice s of a tile is workgroup `group.y % splits == s`. -#}
// [tiles, slices, quads, 4, invocations]. Atomic, so that one workgroup sees what others wrote.
@group(0) @binding(14) var<storage, read_write> sums: array<atomic<u32>>;
{% if not has_statistics %}
// Slices that are done, of each tile; zeros before and after.
@group(0) @binding(13) var<storage, read_write> counters: array<atomic<u32>>;
var<workgroup> sh_is_last: u32;
{% endif %}
// Of the tile, among all.
var<private> tile_number: u32;

// Which column of tiles a workgroup shares, after setting its tile's number. Once, at the beginning.
fn column_of_slice(group: vec3<u32>) -> u32 {
    let column = group.y / {{ splits }}u;
    let columns = (p.out_quads + {{ tile_quads - 1 }}u) / {{ tile_quads }}u;
    tile_number = (group.x + group.z * p.row_groups) * columns + column;
    return column;
}
// Quads of each slice: the last may have fewer, or none.
fn slice_of(quads: u32) -> u32 {
    return (quads + {{ splits * step - 1 }}u) / {{ splits * step }}u * {{ step }}u;
}
fn sum_at(slice: u32, quad: u32, local: u32) -> u32 {
    return ((tile_number * {{ splits }}u + slice) * {{ split_quads }}u + quad) * {{ 4 * threads }}u + local;
}
fn leave_sum(slice: u32, quad: u32, local: u32, v: vec4<f32>) {
    let at = sum_at(slice, quad, local);
{% for i in range(4) %}
    atomicStore(&sums[at + {{ i * threads }}u], bitcast<u32>(v[{{ i }}]));
{% endfor %}
}
fn whole_sum(quad: u32, local: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    for (var slice = 0u; slice < {{ splits }}u; slice++) {
        let at = sum_at(slice, quad, local);
        v += bitcast<vec4<f32>>(vec4<u32>({% for i in range(4) %}{{ ", " if i > 0 }}atomicLoad(&sums[at + {{ i * threads }}u]){% endfor %}));
    }
    return v;
}
// Behind the counters of statistics.
fn slices_done() -> u32 {
    return {{ "p.m / p.positions * ((p.out_quads + 15u) / 16u) + " if has_statistics }}tile_number;
}
// Behind leave_sum of all invocations: sh_is_last says whether this slice is the last to be done.
fn count_slice(local: u32) {
    storageBarrier();
    if (local == 0u) {
        let is_last = atomicAdd(&counters[slices_done()], 1u) + 1u == {{ splits }}u;
        sh_is_last = u32(is_last);
        if (is_last) {
            atomicStore(&counters[slices_done()], 0u);
        }
    }
}
