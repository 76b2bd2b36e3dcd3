{% import "shared/io.wgsl" as io %}
{% import "shared/activation.wgsl" as activation %}
// The gated unit of transformer feed-forward blocks.
//
//   y[r, c] = x[r, c] * gelu(x[r, C + c])
//
// x: [rows, 2C] {{ x_dtype }}   y: [rows, C] {{ x_dtype }}
// An invocation writes one quad of channels; a workgroup writes 64 of them.

struct Params {
    count: u32, // quads of y
    quads: u32, // quads in a row of y
    width: u32, // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: {{ io.quads(x_dtype) }};
@group(0) @binding(1) var<storage, read_write> y: {{ io.quads(x_dtype) }};

{{ activation.define("gelu") }}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.width + id.x;
    if (i >= p.count) {
        return;
    }
    let ix = i + i / p.quads * p.quads;
    let value = {{ io.load(x_dtype, "x", "ix") }};
    let gate = {{ io.load(x_dtype, "x", "ix + p.quads") }};
    {{ io.store(x_dtype, "y", "i", "value * activate(gate)") }}
}
