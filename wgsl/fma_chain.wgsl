// Chains of multiply-adds that never leave the registers: what the arithmetic of an adapter can do
// at best.
//
//   a_j <- a_j * factor + shift, {{ unroll }} * steps times      y = sum_j a_j
//
// for j < {{ chains }}, from a_j = j. y: [1, 1, threads, 4] f32, each quad of four equal chains.
// An invocation has {{ chains }} quads of chains, none of which waits for another.

struct Params {
    threads: u32,
    steps: u32,
    width: u32, // invocations in a row of the grid
    factor: f32,
    shift: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let thread = id.y * p.width + id.x;
    if (thread >= p.threads) {
        return;
    }
    let factor = vec4<f32>(p.factor);
    let shift = vec4<f32>(p.shift);
    // Different for every channel and invocation as far as the compiler knows.
    let nothing = vec4<f32>(min(vec4<u32>(thread) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.threads + 3u)) / (p.threads + 4u));
    {% for j in range(chains) %}
    var a{{ j }} = vec4<f32>({{ j }}.0) + nothing;
    {% endfor %}
    for (var step = 0u; step < p.steps; step++) {
        {% for i in range(unroll) %}
        {% for j in range(chains) %}
        a{{ j }} = fma(a{{ j }}, factor, shift);
        {% endfor %}
        {% endfor %}
    }
    y[thread] = {% for j in range(chains) %}{% if j > 0 %} + {% endif %}a{{ j }}{% endfor %};
}
