// Copies a tensor over and over: what the memory of an adapter can move at best.
//
//   y[i] = x[i]
//
// x: [1, 1, quads, 4] f32   y: [1, 1, quads, 4] f32
// All invocations sweep the tensors together, each with four quads of its own at a time, and start
// again at the end. The place moves with every step, so that no store can be left out.

struct Params {
    quads: u32,   // a multiple of 4 * threads
    threads: u32,
    steps: u32,   // of 4 * threads quads
    width: u32,   // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let thread = id.y * p.width + id.x;
    if (thread >= p.threads) {
        return;
    }
    var at = thread;
    for (var step = 0u; step < p.steps; step++) {
        {% for j in range(4) %}
        let v{{ j }} = x[at + {{ j }}u * p.threads];
        {% endfor %}
        {% for j in range(4) %}
        y[at + {{ j }}u * p.threads] = v{{ j }};
        {% endfor %}
        at += 4u * p.threads;
        if (at >= p.quads) {
            at -= p.quads;
        }
    }
}
