{% import "shared/io.wgsl" as io %}
// Token and position embeddings.
//
//   y[n, t, c] = table[ids[n, t], c]{% if positions %} + positions[t, c]{% endif %}


// ids: [N, T] u32   table: [V, C] {{ table_dtype }}{% if positions %}   positions: [P, C] {{ positions_dtype }}{% endif %}   y: [N, T, C] {{ y_dtype }}
// An id past the table reads its last row. An invocation writes one quad of channels.

struct Params {
    count: u32,      // quads of y
    quads: u32,      // quads in a row
    tokens: u32,     // T
    vocabulary: u32, // V
    width: u32,      // invocations in a row of the grid
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: {{ io.quads(table_dtype) }};
@group(0) @binding(2) var<storage, read_write> y: {{ io.quads(y_dtype) }};
{% if positions %}
@group(0) @binding(3) var<storage, read> positions: {{ io.quads(positions_dtype) }};
{% endif %}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.width + id.x;
    if (i >= p.count) {
        return;
    }
    let row = i / p.quads;
    let q = i % p.quads;
    let token = min(ids[row], p.vocabulary - 1u) * p.quads + q;
    var value = {{ io.load(table_dtype, "table", "token") }};
    {% if positions %}
    let place = row % p.tokens * p.quads + q;
    value += {{ io.load(positions_dtype, "positions", "place") }};
    {% endif %}
    {{ io.store(y_dtype, "y", "i", "value") }}
}
