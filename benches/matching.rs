//! Benchmarks of route matching.
fn main() {}
