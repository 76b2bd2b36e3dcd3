//! Every kernel variant renders, validates and translates to the language of every backend,
//! without a GPU.

use std::collections::BTreeSet;
use std::path::Path;

use dreamglass_kernels::plan::{Define, Variant};
use dreamglass_kernels::{ops, shader};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// WebGPU's default limits, which every adapter has: workgroup memory and invocations.
const WORKGROUP_BYTES: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
/// Bytes of immediates that DirectX 12 has room for.
const IMMEDIATE_BYTES: u32 = 128;
/// Bindings that a dispatch may have: more cost time in the driver.
const BINDINGS: usize = 7;
/// The same where a group norm is fused, which is done only on adapters that bind as many.
const FUSED_BINDINGS: usize = 11;

/// Workgroup memory of adapters with matrix units.
const MATRIX_WORKGROUP_BYTES: u32 = 48 << 10;

fn uses_matrices(variant: &Variant) -> bool {
    variant.stem.ends_with("_coop")
}

/// Whether fragments are read through vectors, which Metal's language cannot.
fn has_vectors(variant: &Variant) -> bool {
    variant.defines.contains(&("has_vectors", Define::Bool(true)))
}

fn checked(variant: &Variant) -> (naga::Module, ModuleInfo) {
    let wgsl = shader::render(variant).unwrap_or_else(|e| panic!("{variant}: {e}"));
    let module = naga::front::wgsl::parse_str(&wgsl)
        .unwrap_or_else(|e| panic!("{variant}: {}\n{wgsl}", e.emit_to_string(&wgsl)));
    // What every Vulkan, Metal and DirectX 12 adapter of wgpu offers; the last is unpack2x16float.
    let mut capabilities =
        Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if uses_matrices(variant) {
        capabilities |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{variant}: {}", e.emit_to_string(&wgsl)));
    (module, info)
}

fn translate(variant: &Variant, module: &naga::Module, info: &ModuleInfo) {
    // Subgroup operations need SPIR-V 1.3, Metal 2.1 and shader model 6.0.
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    let words = spv::write_vec(module, info, &options, None);
    assert!(words.is_ok_and(|w| !w.is_empty()), "{variant}: SPIR-V");

    if uses_matrices(variant) && has_vectors(variant) {
        return;
    }
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let text = msl::write_string(module, info, &options, &msl::PipelineOptions::default());
    let (_, translated) = text.unwrap_or_else(|e| panic!("{variant}: MSL: {e}"));
    let names = translated.entry_point_names;
    assert!(names.iter().all(Result::is_ok) && names.len() == 1, "{variant}: MSL: {names:?}");

    // DirectX 12 has none.
    if uses_matrices(variant) {
        return;
    }
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        immediates_target: Some(hlsl::BindTarget { register: 0, space: 1, ..Default::default() }),
        ..Default::default()
    };
    let pipeline = hlsl::PipelineOptions::default();
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
    let names = reflection.unwrap_or_else(|e| panic!("{variant}: HLSL: {e}")).entry_point_names;
    assert!(names.iter().all(Result::is_ok) && names.len() == 1, "{variant}: HLSL: {names:?}");
}

#[test]
fn every_variant_validates_and_translates() {
    for variant in ops::variants() {
        let (module, info) = checked(&variant);
        translate(&variant, &module, &info);
    }
}

#[test]
fn every_variant_fits_the_least_adapter() {
    for variant in ops::variants() {
        let (module, _) = checked(&variant);
        let wgsl = shader::render(&variant).unwrap_or_default();
        let (_, reflection) = shader::reflect(&variant, &wgsl).unwrap_or_else(|e| panic!("{variant}: {e}"));
        let invocations: u32 = reflection.workgroup_size.iter().product();
        assert!(invocations <= INVOCATIONS, "{variant}: {invocations} invocations");
        assert!(reflection.immediate_bytes <= IMMEDIATE_BYTES, "{variant}: {reflection:?}");
        let is_fused = reflection.bindings.iter().any(|b| b.name.ends_with("statistics"));
        let bindings = if is_fused { FUSED_BINDINGS } else { BINDINGS };
        assert!(reflection.bindings.len() <= bindings, "{variant}: {reflection:?}");
        let workgroup =
            module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = workgroup.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
        let limit = if uses_matrices(&variant) { MATRIX_WORKGROUP_BYTES } else { WORKGROUP_BYTES };
        assert!(bytes <= limit, "{variant}: {bytes} bytes of workgroup memory");
        if variant.stem.ends_with("_lane") {
            assert_eq!(bytes, 0, "{variant}: CPU adapters gain nothing from workgroup memory");
        }
    }
}

#[test]
fn every_kernel_file_has_a_listed_variant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wgsl");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap_or_else(|e| panic!("{e}")).path());
    let files = paths.filter(|p| p.extension().is_some_and(|e| e == "wgsl"));
    let files: BTreeSet<String> =
        files.filter_map(|p| Some(p.file_stem()?.to_string_lossy().into_owned())).collect();
    let listed: BTreeSet<String> = ops::variants().into_iter().map(|v| v.stem.to_owned()).collect();
    assert!(!files.is_empty());
    assert_eq!(files, listed, "left: files in wgsl/, right: stems of ops::variants()");
}
