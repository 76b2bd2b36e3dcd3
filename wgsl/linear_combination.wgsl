{% import "shared/io.wgsl" as io %}
{% import "shared/activation.wgsl" as activation %}
{% set dtypes = [x0_dtype, x1_dtype, x2_dtype, x3_dtype][:terms] %}
// Weighted sums of tensors: noise, guidance and scheduler steps.
//
//   y[n, i, c] = act(sum_k factor_k * x_k[row_k(n), i, c] + offset)
//   row_k(n) = clamp(n * step_k + shift_k, 0, last_k); a term with factor 0 is not read
//
// {% for dtype in dtypes %}x{{ loop.index0 }}: [N or 1, positions, C] {{ dtype }}   {% endfor %}y: [N, positions, C] {{ y_dtype }}
// {% if per_row %}factors: [N or 1, 1, 1, {{ dtypes | length }}] f32 (pitch 4){% else %}The factors are immediates.{% endif %}

// Padding channels are written as zeros. An invocation writes one quad of channels.

struct Params {
    count: u32,       // quads of y
    row: u32,         // quads in a batch row
    quads: u32,       // quads in a position
    c: u32,
    width: u32,       // invocations in a row of the grid
    factor_step: u32, // 1 where every batch row has factors of its own, else 0
    factor_shift: u32, // the first row of the factors
    offset: f32,
    {% for dtype in dtypes %}
    step{{ loop.index0 }}: u32,  // 1 where x{{ loop.index0 }} has all batch rows, else 0
    shift{{ loop.index0 }}: i32,
    last{{ loop.index0 }}: i32,  // the last row there is
    factor{{ loop.index0 }}: f32,
    {% endfor %}
}
var<immediate> p: Params;

{% for dtype in dtypes %}
@group(0) @binding({{ loop.index0 }}) var<storage, read> x{{ loop.index0 }}: {{ io.quads(dtype) }};
{% endfor %}
@group(0) @binding({{ dtypes | length }}) var<storage, read_write> y: {{ io.quads(y_dtype) }};
{% if per_row %}
@group(0) @binding({{ dtypes | length + 1 }}) var<storage, read> factors: array<vec4<f32>>;
{% endif %}

{{ activation.define(activation_name) }}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * p.width + id.x;
    if (i >= p.count) {
        return;
    }
    let n = i / p.row;
    let place = i % p.row;
    {% if per_row %}
    let factor = factors[n * p.factor_step + p.factor_shift];
    {% endif %}
    var sum = vec4<f32>(p.offset);
    {% for dtype in dtypes %}
    {% set factor = "factor[" ~ loop.index0 ~ "]" if per_row else "p.factor" ~ loop.index0 %}
    if ({{ factor }} != 0.0) {
        let at = u32(clamp(i32(n * p.step{{ loop.index0 }}) + p.shift{{ loop.index0 }}, 0, p.last{{ loop.index0 }})) * p.row + place;
        sum += {{ factor }} * {{ io.load(dtype, "x" ~ loop.index0, "at") }};
    }
    {% endfor %}
    let present = vec4<u32>(0u, 1u, 2u, 3u) + 4u * (i % p.quads) < vec4<u32>(p.c);
    let value = select(vec4<f32>(0.0), {{ activation.apply(activation_name, "sum") }}, present);
    {{ io.store(y_dtype, "y", "i", "value") }}
}
