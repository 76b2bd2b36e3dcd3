//! Shader composition: templates in `wgsl/` rendered into WGSL, one rendering per variant.
//!
//! minijinja is the one composition tool: register tiles are unrolled loops, and WGSL functions
//! cannot take pointers into storage or workgroup memory. naga parses the result, and the
//! workgroup size, bindings and accesses are read from it, never repeated in Rust.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::error::KernelError;
use crate::plan::{Define, Variant};

/// Every file of `wgsl/`, by path.
const SOURCES: &[(&str, &str)] = &[
    ("shared/io.wgsl", include_str!("../../wgsl/shared/io.wgsl")),
    ("shared/activation.wgsl", include_str!("../../wgsl/shared/activation.wgsl")),
    ("attention_lane.wgsl", include_str!("../../wgsl/attention_lane.wgsl")),
    ("attention_tile.wgsl", include_str!("../../wgsl/attention_tile.wgsl")),
    ("attention_wide.wgsl", include_str!("../../wgsl/attention_wide.wgsl")),
    ("copy_sweep.wgsl", include_str!("../../wgsl/copy_sweep.wgsl")),
    ("fma_chain.wgsl", include_str!("../../wgsl/fma_chain.wgsl")),
    ("embedding.wgsl", include_str!("../../wgsl/embedding.wgsl")),
    ("group_norm_apply.wgsl", include_str!("../../wgsl/group_norm_apply.wgsl")),
    ("group_norm_combine.wgsl", include_str!("../../wgsl/group_norm_combine.wgsl")),
    ("group_norm_lane.wgsl", include_str!("../../wgsl/group_norm_lane.wgsl")),
    ("group_norm_partial.wgsl", include_str!("../../wgsl/group_norm_partial.wgsl")),
    ("i420.wgsl", include_str!("../../wgsl/i420.wgsl")),
    ("layer_norm.wgsl", include_str!("../../wgsl/layer_norm.wgsl")),
    ("linear_combination.wgsl", include_str!("../../wgsl/linear_combination.wgsl")),
    ("picture_in.wgsl", include_str!("../../wgsl/picture_in.wgsl")),
    ("picture_out.wgsl", include_str!("../../wgsl/picture_out.wgsl")),
    ("similarity_combine.wgsl", include_str!("../../wgsl/similarity_combine.wgsl")),
    ("similarity_partial.wgsl", include_str!("../../wgsl/similarity_partial.wgsl")),
    ("timestep_embedding.wgsl", include_str!("../../wgsl/timestep_embedding.wgsl")),
    ("shared/norm.wgsl", include_str!("../../wgsl/shared/norm.wgsl")),
    ("shared/statistics.wgsl", include_str!("../../wgsl/shared/statistics.wgsl")),
    ("shared/split.wgsl", include_str!("../../wgsl/shared/split.wgsl")),
    ("shared/joined.wgsl", include_str!("../../wgsl/shared/joined.wgsl")),
    ("shared/lane.wgsl", include_str!("../../wgsl/shared/lane.wgsl")),
    ("shared/product.wgsl", include_str!("../../wgsl/shared/product.wgsl")),
    ("shared/attention.wgsl", include_str!("../../wgsl/shared/attention.wgsl")),
    ("shared/total.wgsl", include_str!("../../wgsl/shared/total.wgsl")),
    ("shared/pixel.wgsl", include_str!("../../wgsl/shared/pixel.wgsl")),
    ("shared/tile.wgsl", include_str!("../../wgsl/shared/tile.wgsl")),
    ("gemm_lane.wgsl", include_str!("../../wgsl/gemm_lane.wgsl")),
    ("shared/coop.wgsl", include_str!("../../wgsl/shared/coop.wgsl")),
    ("attention_coop.wgsl", include_str!("../../wgsl/attention_coop.wgsl")),
    ("product_coop.wgsl", include_str!("../../wgsl/product_coop.wgsl")),
    ("conv2d_coop.wgsl", include_str!("../../wgsl/conv2d_coop.wgsl")),
    ("gemm_tile.wgsl", include_str!("../../wgsl/gemm_tile.wgsl")),
    ("conv2d_lane.wgsl", include_str!("../../wgsl/conv2d_lane.wgsl")),
    ("conv2d_narrow.wgsl", include_str!("../../wgsl/conv2d_narrow.wgsl")),
    ("conv2d_tile.wgsl", include_str!("../../wgsl/conv2d_tile.wgsl")),
];

/// Every file of `wgsl/` with its path: what a compiled kernel may be made from.
pub(crate) fn sources() -> &'static [(&'static str, &'static str)] {
    SOURCES
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        let trimmed = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(trimmed.unwrap_or_default());
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (path, source) in SOURCES {
            // A template that does not parse is reported by `render`, which cannot find it then.
            let _ = env.add_template(path, source);
        }
        env
    })
}

/// Renders a variant's WGSL.
///
/// # Errors
/// [`KernelError::Compile`] when the template is missing or does not render.
pub fn render(variant: &Variant) -> Result<String, KernelError> {
    let path = format!("{}.wgsl", variant.stem);
    let fail = |e: minijinja::Error| KernelError::Compile {
        variant: variant.to_string(),
        message: format!("{e:#}"),
    };
    let context: BTreeMap<&str, Value> = variant
        .defines
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Define::U32(v) => Value::from(*v),
                Define::Str(v) => Value::from(*v),
                Define::Bool(v) => Value::from(*v),
            };
            (*name, value)
        })
        .collect();
    environment().get_template(&path).map_err(fail)?.render(Value::from(context)).map_err(fail)
}

/// A binding as the shader declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingInfo {
    /// The WGSL variable's name.
    pub name: String,
    /// Index within group 0.
    pub binding: u32,
    /// Whether the shader may write it.
    pub writable: bool,
}

/// What Rust needs to know of a shader, read from the shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflection {
    /// Storage bindings of group 0, in order.
    pub bindings: Vec<BindingInfo>,
    /// `@workgroup_size`.
    pub workgroup_size: [u32; 3],
    /// Bytes of the `var<immediate>` block.
    pub immediate_bytes: u32,
}

/// Parses WGSL and reads its interface: the module as parsed, so that nothing parses it again, and what Rust needs to
/// know of it.
///
/// # Errors
/// [`KernelError::Compile`] when it does not parse or has no entry point `main`.
pub fn reflect(variant: &Variant, wgsl: &str) -> Result<(naga::Module, Reflection), KernelError> {
    let fail = |message: String| KernelError::Compile { variant: variant.to_string(), message };
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| fail(e.emit_to_string(wgsl)))?;
    let entry = module.entry_points.iter().find(|e| e.name == "main");
    let entry = entry.ok_or_else(|| fail("no entry point `main`".into()))?;
    let mut reflection =
        Reflection { bindings: Vec::new(), workgroup_size: entry.workgroup_size, immediate_bytes: 0 };
    for (_, variable) in module.global_variables.iter() {
        match (variable.space, &variable.binding) {
            (naga::AddressSpace::Storage { access }, Some(place)) => {
                reflection.bindings.push(BindingInfo {
                    name: variable.name.clone().unwrap_or_default(),
                    binding: place.binding,
                    writable: access.contains(naga::StorageAccess::STORE),
                });
            }
            (naga::AddressSpace::Immediate, _) => {
                reflection.immediate_bytes = module.types[variable.ty].inner.size(module.to_ctx());
            }
            _ => {}
        }
    }
    reflection.bindings.sort_by_key(|b| b.binding);
    Ok((module, reflection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for (path, _) in SOURCES {
            assert!(environment().get_template(path).is_ok(), "{path}");
        }
    }
}
