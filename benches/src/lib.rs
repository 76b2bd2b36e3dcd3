//! Named shapes that benchmarks share.
