//! What people write: one declaration per table of keys, from which come the decoder, the schema and the reference.
//!
//! Reading collects every wrong key, type and bound in the report and goes on; it does not know whether names
//! resolve or values make sense together (that is `validate`).

mod declare;
mod keys;
mod quantity;
mod read;
mod retry;
mod scalar;
mod shape;
mod table;

pub(crate) use keys::*;
pub(crate) use quantity::{Bytes, RawRate, duration_words, factor_words, size_words};
pub(crate) use read::{CountOr, FlagOr, Map, Off, PortOrFlag, Raw, Spanned, TextOr, Word};
pub(crate) use retry::RetryOn;
pub(crate) use scalar::{Status, shown};
pub(crate) use shape::{KeyShape, Shape, TableShape};
pub(crate) use table::{missing_listener, nearest};
