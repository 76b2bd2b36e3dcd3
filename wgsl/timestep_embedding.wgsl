{% import "shared/io.wgsl" as io %}
// The sinusoidal embedding of a timestep or a guidance scale.
//
//   f_i = exp(-rate * i), i < half      angle_i = factor * values[n] * f_i
//   y[n] = [cos(angle), sin(angle)] or sines first
//
// values: [N, 1, 1, 1] f32 (pitch 4)   y: [N, 1, 1, 2 * half] {{ y_dtype }}
// Angles reach thousands of radians, for which WGSL promises nothing: quadrant and remainder are
// taken in three exact steps (Cody and Waite), the remainder's sine and cosine by polynomials
// (Cephes sinf, cosf; |err| <= 2^-23). An invocation writes one quad of channels.

struct Params {
    count: u32,  // quads of y
    quads: u32,  // quads in a row
    half: u32,   // frequencies
    rate: f32,   // ln(10000) / (half - shift)
    factor: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: {{ io.quads(y_dtype) }};

// cos(angle) where `quarter` is 1, sin(angle) where it is 0: a cosine is a sine a quarter turn on.
fn wave(angle: f32, quarter: i32) -> f32 {
    let turns = round(angle * 0.63661977);
    let r = ((angle - turns * 1.5703125) - turns * 4.8375129699707e-4) - turns * 7.5497899549e-8;
    let z = r * r;
    let sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
    let cosine = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z
        - 0.5 * z + 1.0;
    let quadrant = i32(turns) + quarter;
    let value = select(sine, cosine, (quadrant & 1) == 1);
    return select(value, -value, (quadrant & 2) == 2);
}

// Channel `c` of the embedding of `value`; zero in the padding.
fn channel(value: f32, c: u32) -> f32 {
    let second = c >= p.half;
    let i = select(c, c - p.half, second);
    let angle = p.factor * value * exp(-p.rate * f32(i));
    let quarter = select({% if cos_first %}1, 0{% else %}0, 1{% endif %}, second);
    return select(0.0, wave(angle, quarter), c < 2u * p.half);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if (i >= p.count) {
        return;
    }
    let value = values[i / p.quads].x;
    let c = 4u * (i % p.quads);
    let quad = vec4<f32>(channel(value, c), channel(value, c + 1u), channel(value, c + 2u), channel(value, c + 3u));
    {{ io.store(y_dtype, "y", "i", "quad") }}
}
