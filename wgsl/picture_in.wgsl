{% import "shared/io.wgsl" as io %}
// A region of an RGBA8 picture, resized, in [-1, 1].
//
//   (u, v) = corner + (column + 0.5) * right + (row + 0.5) * down, both along an axis of the source
//   weight_i = max(0, 1 - |i + 0.5 - u| / max(s, 1)), s the scale along u, normalised; the same for v
//   y = 2 * sum_ij weight_i * weight_j * pixel[j, i] / 255 - 1
//
// Pixels outside the picture are those on its edge. Enlarging is bilinear, shrinking a triangle
// filter as wide as the scale.
//
// pixels: [H0, W0] u32, red in the low byte   y: [1, H, W, 3] {{ y_dtype }}
// An invocation writes one pixel; a workgroup writes 8 x 8.

struct Params {
    source_width: u32,
    source_height: u32,
    width: u32,
    height: u32,
    corner_x: f32, // where the result's upper left corner is
    corner_y: f32,
    right_x: f32, // source pixels for each column written
    right_y: f32,
    down_x: f32,  // source pixels for each row written
    down_y: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: {{ io.quads(y_dtype) }};

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.width || id.y >= p.height) {
        return;
    }
    let right = vec2<f32>(p.right_x, p.right_y);
    let down = vec2<f32>(p.down_x, p.down_y);
    let reach = max(abs(right) + abs(down), vec2<f32>(1.0));
    let place = vec2<f32>(id.xy) + 0.5;
    let centre = vec2<f32>(p.corner_x, p.corner_y) + place.x * right + place.y * down - 0.5;
    let first = vec2<i32>(ceil(centre - reach));
    let last = vec2<i32>(floor(centre + reach));
    let edge = vec2<i32>(i32(p.source_width), i32(p.source_height)) - 1;
    var sum = vec3<f32>(0.0);
    var weights = 0.0;
    for (var j = first.y; j <= last.y; j++) {
        let row = u32(clamp(j, 0, edge.y)) * p.source_width;
        let weight_y = max(1.0 - abs(f32(j) - centre.y) / reach.y, 0.0);
        for (var i = first.x; i <= last.x; i++) {
            let weight = weight_y * max(1.0 - abs(f32(i) - centre.x) / reach.x, 0.0);
            sum += weight * unpack4x8unorm(pixels[row + u32(clamp(i, 0, edge.x))]).rgb;
            weights += weight;
        }
    }
    let value = vec4<f32>(2.0 * sum / weights - 1.0, 0.0);
    {{ io.store(y_dtype, "y", "id.y * p.width + id.x", "value") }}
}
