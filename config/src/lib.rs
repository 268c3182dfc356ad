//! Speaks: the words both planes share. Raw text becomes a valid, immutable [`model::Model`]; [`doors`] are the
//! traits through which the planes meet. Knows no tokio and does no I/O: texts come in, Models and errors go out.
//!
//! The way of a text: [`source::Source`] -> `tree` (one spanned value tree for TOML, YAML and JSON) -> `raw` (what
//! people write, one declaration per table of keys) -> `validate` -> [`build::build`] (all files together, host
//! ownership, pointer reuse) -> [`build::Built`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)
)]

pub mod address;
pub mod build;
pub mod diagnostic;
pub mod diff;
pub mod document;
pub mod doors;
pub mod fields;
pub mod hosts;
pub mod model;
pub mod names;
mod raw;
pub mod schema;
pub mod shared_map;
pub mod source;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

pub use build::{Built, Input, Purpose, build, build_for};
pub use diagnostic::{Diagnostic, Severity};
pub use hosts::HostOwners;
pub use schema::schema;
pub use shared_map::SharedMap;
pub use source::{Format, Source};
