//! Shader composition: templates in `wgsl/` rendered into WGSL, one rendering per variant.
