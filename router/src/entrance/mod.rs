//! Who may come in: credentials and the files that they are judged by.
//!
//! ```text
//! files -> keyring (the one owner, off the workers) -> users, keys    read by workers without a lock
//! keys of tokens: a file, or fetch (a thread of its own) -> tokens (verified on the worker, kept for a minute)
//! password -> verdicts (a minute) -> hashing (threads of its own, a bounded line) -> verdict
//! ```
//! Keys of programs are random, so their SHA-256 is enough and is computed on the worker; passwords are not, so their hashes are
//! slow and are computed elsewhere. Knows no exchange (see `exchange::entrance`).

pub mod basic;
pub mod fetch;
pub mod hashing;
pub mod keyring;
pub mod keys;
pub mod shown;
pub mod tokens;
pub mod users;
pub mod verdicts;
