// Draws an RGBA8 picture of a storage buffer into the viewport, smoothly resized.
//
// pixels: [height, width] u32, red in the low byte, as kernels write it: nothing is copied or read
// back. Colours are sRGB; a target that encodes them itself gets linear ones.

struct Place {
    width: u32,
    height: u32,
    is_linear: u32, // 1 where the target encodes sRGB itself
    opacity: f32,
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<uniform> place: Place;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) uv: vec2<f32>,
}

@vertex
fn corner(@builtin(vertex_index) index: u32) -> Corner {
    // One triangle that covers the viewport.
    let uv = vec2<f32>(f32((index << 1u) & 2u), f32(index & 2u));
    return Corner(vec4<f32>(uv.x * 2.0 - 1.0, 1.0 - uv.y * 2.0, 0.0, 1.0), uv);
}

fn pixel(x: i32, y: i32) -> vec3<f32> {
    let column = u32(clamp(x, 0, i32(place.width) - 1));
    let row = u32(clamp(y, 0, i32(place.height) - 1));
    return unpack4x8unorm(pixels[row * place.width + column]).rgb;
}

@fragment
fn colour(at: Corner) -> @location(0) vec4<f32> {
    let centre = at.uv * vec2<f32>(f32(place.width), f32(place.height)) - 0.5;
    let first = vec2<i32>(floor(centre));
    let share = centre - floor(centre);
    let upper = mix(pixel(first.x, first.y), pixel(first.x + 1, first.y), share.x);
    let lower = mix(pixel(first.x, first.y + 1), pixel(first.x + 1, first.y + 1), share.x);
    let encoded = mix(upper, lower, share.y);
    if (place.is_linear == 0u) {
        return vec4<f32>(encoded, place.opacity);
    }
    let low = encoded <= vec3<f32>(0.04045);
    let linear = select(pow((encoded + 0.055) / 1.055, vec3<f32>(2.4)), encoded / 12.92, low);
    return vec4<f32>(linear, place.opacity);
}
