{% import "shared/io.wgsl" as io %}
// A picture in [-1, 1] as RGBA8 words.
//
//   byte = round(clamp((x + 1) / 2, 0, 1) * 255), NaN gives 0, alpha 255
//
// x: [pixels, 3] {{ x_dtype }}   y: [pixels] u32, red in the low byte
// An invocation writes one pixel.

struct Params {
    count: u32, // pixels
    width: u32, // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.width + id.x;
    if (i >= p.count) {
        return;
    }
    let v = {{ io.load(x_dtype, "x", "i") }};
    // By the bits: compilers may take `v != v` for false, and clamp(NaN) is anything.
    let is_nan = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    let unit = clamp(select(v, vec4<f32>(-1.0), is_nan) * 0.5 + 0.5, vec4<f32>(0.0), vec4<f32>(1.0));
    let bytes = vec4<u32>(floor(unit * 255.0 + 0.5));
    y[i] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | 0xff000000u;
}
