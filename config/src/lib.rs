//! Speaks: the words both planes share. Raw text becomes a valid, immutable [`model::Model`]; [`doors`] are the
//! traits through which the planes meet. Knows no tokio and does no I/O.

pub mod doors;
pub mod model;
pub mod names;
