{#- Include: mean and sum of squared deviations of every channel of the result, for the group norm that reads
    it, from the sums in registers. Each workgroup leaves those of its tile; the last one of a column of tiles
    combines them. Needs shared/product.wgsl and `scratch`, 256 quads in workgroup memory. -#}
// [N, 2, C] of all rows, then [N, tiles, 2, C]. Atomic, so that one workgroup sees what others wrote.
@group(0) @binding(12) var<storage, read_write> result_statistics: array<atomic<u32>>;
// Tiles that are done, of each column of tiles of each batch row; zeros before and after.
@group(0) @binding(13) var<storage, read_write> counters: array<atomic<u32>>;
var<workgroup> sh_is_last: u32;

fn write_statistic(at: u32, v: f32) {
    atomicStore(&result_statistics[at], bitcast<u32>(v));
}
fn read_statistic(at: u32) -> f32 {
    return bitcast<f32>(atomicLoad(&result_statistics[at]));
}

// Sum over the sixteen rows of invocations that share a quad of columns.
fn of_columns(local: u32, v: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    {{ scratch }}[local] = v;
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        sum += {{ scratch }}[i * 16u + local % 16u];
    }
    return sum;
}

// Sum over the four invocations that share a column.
fn of_four(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    {{ scratch }}[local].x = v;
    workgroupBarrier();
    let first = local / 4u * 4u;
    return {{ scratch }}[first].x + {{ scratch }}[first + 1u].x + {{ scratch }}[first + 2u].x + {{ scratch }}[first + 3u].x;
}

// The tile whose first row is 64 * row_group, of quads from 16 * column on; each invocation has four rows of a
// quad, zeros where there is no row. In uniform control flow.
fn collect(local: u32, row_group: u32, column: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
    let batch = p.m / p.positions;
    let tiles_of_phase = (p.positions + 63u) / 64u;
    let tiles = tiles_of_phase{{ " * 4u" if has_phases else "" }};
    let n = row_group / tiles_of_phase;
    let within = row_group % tiles_of_phase;
    let tile = {{ "phase * tiles_of_phase + " if has_phases else "" }}within;
    let pitch = p.out_quads * 4u;
    let tiles_at = (batch + n * tiles) * 2u * pitch;

    let rows = min(64u, p.positions - within * 64u);
    let mean = of_columns(local, v0 + v1 + v2 + v3) / f32(rows);
    var squares = vec4<f32>(0.0);
{% for i in range(4) %}
    if (local / 16u * 4u + {{ i }}u < rows) {
        squares += (v{{ i }} - mean) * (v{{ i }} - mean);
    }
{% endfor %}
    squares = of_columns(local, squares);
    let quad = column * 16u + local;
    if (local < 16u && quad < p.out_quads) {
        let at = tiles_at + tile * 2u * pitch + quad * 4u;
{% for i in range(4) %}
        write_statistic(at + {{ i }}u, mean[{{ i }}]);
        write_statistic(at + pitch + {{ i }}u, squares[{{ i }}]);
{% endfor %}
    }
    storageBarrier();
    let counter = n * ((p.out_quads + 15u) / 16u) + column;
    if (local == 0u) {
        sh_is_last = u32(atomicAdd(&counters[counter], 1u) + 1u == tiles);
    }
    if (workgroupUniformLoad(&sh_is_last) == 0u) {
        return;
    }
    storageBarrier();
    combine(local, column * 64u + local / 4u, n, tiles_at, tiles, tiles_of_phase);
    if (local == 0u) {
        atomicStore(&counters[counter], 0u);
    }
}

// Chan's combination of one channel's tiles by four invocations, in two passes.
fn combine(local: u32, channel: u32, n: u32, tiles_at: u32, tiles: u32, tiles_of_phase: u32) {
    let pitch = p.out_quads * 4u;
    let at = tiles_at + min(channel, pitch - 1u);
    let count = f32(p.positions{{ " * 4u" if has_phases else "" }});
    var sum = 0.0;
    for (var t = local % 4u; t < tiles; t += 4u) {
        sum += f32(min(64u, p.positions - t % tiles_of_phase * 64u)) * read_statistic(at + t * 2u * pitch);
    }
    let mean = of_four(local, sum) / count;
    var squares = 0.0;
    for (var t = local % 4u; t < tiles; t += 4u) {
        let d = read_statistic(at + t * 2u * pitch) - mean;
        let rows = f32(min(64u, p.positions - t % tiles_of_phase * 64u));
        squares += read_statistic(at + (2u * t + 1u) * pitch) + rows * d * d;
    }
    squares = of_four(local, squares);
    if (local % 4u == 0u && channel < pitch) {
        write_statistic(n * 2u * pitch + channel, mean);
        write_statistic((n * 2u + 1u) * pitch + channel, squares);
    }
}
