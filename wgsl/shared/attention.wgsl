{#- Include: the operands of attention. Needs q_dtype, k_dtype and v_dtype. -#}
{% import "shared/io.wgsl" as io %}
struct Params {
    queries: u32, // T
    keys: u32,    // S
    q_pitch: u32, // quads between rows
    k_pitch: u32,
    v_pitch: u32,
    y_pitch: u32,
    q_offset: u32, // quads before the first head
    k_offset: u32,
    v_offset: u32,
    k_rows: u32, // rows between batch rows; 0 where one serves all
    v_rows: u32,
    factor: f32, // scale * log2(e)
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: {{ io.quads(q_dtype) }};
@group(0) @binding(1) var<storage, read> k: {{ io.quads(k_dtype) }};
@group(0) @binding(2) var<storage, read> v: {{ io.quads(v_dtype) }};
@group(0) @binding(3) var<storage, read_write> y: {{ io.quads(q_dtype) }};

// Below every score, and finite: the difference of two is a number.
const MASKED = -3.0e38;
