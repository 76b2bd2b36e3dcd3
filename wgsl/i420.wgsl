// RGBA8 words as planes of bytes for video encoders: all of Y, then U and V at half the sides.
//
//   Y = 16 + (66 R + 129 G + 25 B) / 256           of every pixel
//   U = 128 + (-38 R - 74 G + 112 B) / 256         of the mean of each 2x2 pixels
//   V = 128 + (112 R - 94 G - 18 B) / 256          (BT.601, studio range; each rounded)
//
// pixels: [H, W] u32, red in the low byte   y: [H W / 4 + 2 (H W / 16)] u32, the first byte low
// An invocation writes 8x2 pixels: four words of Y, one of U, one of V.

struct Params {
    count: u32, // blocks of 8x2 pixels
    width: u32, // invocations in a row of the grid
    columns: u32, // blocks in a row of the picture
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

fn channels(word: u32) -> vec3<i32> {
    return vec3<i32>(vec3<u32>(word, word >> 8u, word >> 16u) & vec3<u32>(0xffu));
}

fn dot3(a: vec3<i32>, b: vec3<i32>) -> i32 {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.width + id.x;
    if (i >= p.count) {
        return;
    }
    let block_row = i / p.columns;
    let column = i % p.columns;
    // Words of a row of pixels, and of a row of luma.
    let row = 2u * block_row * 8u * p.columns + 8u * column;
    let luma_row = 2u * block_row * 2u * p.columns + 2u * column;
    var luma = array<u32, 4>();
    var chroma = vec2<u32>(0u);
    for (var pair = 0u; pair < 4u; pair++) {
        var sum = vec3<i32>(0);
        for (var k = 0u; k < 4u; k++) {
            let x = 2u * pair + (k & 1u);
            let below = k >> 1u;
            let c = channels(pixels[row + below * 8u * p.columns + x]);
            sum += c;
            let value = u32((dot3(c, vec3<i32>(66, 129, 25)) + 128) >> 8u) + 16u;
            luma[2u * below + (x >> 2u)] |= value << (8u * (x & 3u));
        }
        // Four pixels: a quarter of the sum, and 128 * 4 as the half that rounds.
        let u = u32(((dot3(sum, vec3<i32>(-38, -74, 112)) + 512) >> 10u) + 128);
        let v = u32(((dot3(sum, vec3<i32>(112, -94, -18)) + 512) >> 10u) + 128);
        chroma |= vec2<u32>(u, v) << vec2<u32>(8u * pair);
    }
    y[luma_row] = luma[0];
    y[luma_row + 1u] = luma[1];
    y[luma_row + 2u * p.columns] = luma[2];
    y[luma_row + 2u * p.columns + 1u] = luma[3];
    // 16 pixels a block are four words of luma; a plane of chroma has a word a block.
    y[4u * p.count + i] = chroma.x;
    y[5u * p.count + i] = chroma.y;
}
