//! What a plan is recorded for: the tier of kernels and the numbers that shape them.

/// Which family of kernels fits an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Workgroup tiles in workgroup memory: every GPU.
    Tile,
    /// Register tiles, each lane fetching different data and the subgroup broadcasting it, no
    /// workgroup memory: CPU adapters, where workgroup memory is no faster than any other.
    Lane,
}

impl Tier {
    /// Name used in dumps and variants.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile",
            Self::Lane => "lane",
        }
    }
}

/// The tier and limits that recording needs; plain data, so that plans are tested without a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Kernel family.
    pub tier: Tier,
    /// Lanes of a subgroup where they are fixed (4, 8 or 16 on CPU adapters); 0 where unknown.
    pub lanes: u32,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest number of workgroups along one dimension.
    pub max_workgroups: u32,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Bytes of workgroup memory that one kernel may have.
    pub max_workgroup_bytes: u32,
    /// Matrix units that products of f16 use on the [`Tier::Tile`].
    pub matrices: Option<Matrices>,
}

/// Cooperative matrices: square fragments that a subgroup multiplies, f16 times f16 added up in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns of a fragment: 8 or 16.
    pub fragment: u32,
    /// Whether fragments are read through arrays of vectors; Metal reads scalars only.
    pub has_vectors: bool,
    /// Lanes of a subgroup.
    pub lanes: u32,
}

impl Target {
    /// The portable GPU tier at WebGPU's default limits, but with as many storage buffers as desktop
    /// adapters bind (16 and more; WebGPU promises 8).
    pub const fn tile() -> Self {
        Self {
            tier: Tier::Tile,
            lanes: 0,
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            max_storage_buffers: 16,
            max_workgroup_bytes: 16 << 10,
            matrices: None,
        }
    }
    /// The CPU-adapter tier with subgroups of `lanes`.
    pub const fn lane(lanes: u32) -> Self {
        Self { tier: Tier::Lane, lanes, ..Self::tile() }
    }
}
