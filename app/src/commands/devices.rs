//! `dreamglass devices`: the adapters there are.

use std::process::ExitCode;

use anyhow::{Result, bail};
use dreamglass_engine::kernels::gpu::{self, AdapterSummary};
use serde_json::json;

use super::print;
use crate::cli::DevicesArgs;

/// Lists adapters, in the order that `--adapter` counts them.
pub fn run(arguments: &DevicesArgs) -> Result<ExitCode> {
    let adapters = gpu::adapters();
    if arguments.json {
        let list: Vec<_> = adapters.iter().map(in_json).collect();
        print(&format!("{:#}\n", json!(list)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if adapters.is_empty() {
        bail!(
            "there is no adapter with Vulkan, Metal or DX12; a software one is in Debian/Ubuntu's package \
             mesa-vulkan-drivers"
        );
    }
    print(&adapters.iter().map(in_text).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn in_text(adapter: &AdapterSummary) -> String {
    let AdapterSummary { index, name, backend, device_type, driver, .. } = adapter;
    let [smallest, largest] = adapter.subgroup_sizes;
    let f16 = if adapter.has_f16 { "native" } else { "storage only" };
    let tier = adapter.tier.name();
    let binding = adapter.max_binding_bytes >> 20;
    format!(
        "{index}: {name}\n   {backend}, {device_type}, {driver}\n   kernels {tier}, f16 {f16}, \
         subgroups {smallest}..{largest}, largest binding {binding} MiB\n"
    )
}

fn in_json(adapter: &AdapterSummary) -> serde_json::Value {
    json!({
        "index": adapter.index,
        "name": adapter.name,
        "backend": adapter.backend,
        "device_type": adapter.device_type,
        "driver": adapter.driver,
        "is_software": adapter.is_software,
        "has_f16": adapter.has_f16,
        "subgroup_sizes": adapter.subgroup_sizes,
        "tier": adapter.tier.name(),
        "max_buffer_bytes": adapter.max_buffer_bytes,
        "max_binding_bytes": adapter.max_binding_bytes,
    })
}
