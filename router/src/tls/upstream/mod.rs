//! TLS with endpoints: what a cluster believes and shows, the handshake on the router's side.
//!
//! ```text
//! words of a cluster + files -> trust (settings of handshakes, sessions) -> connect -> stream
//!          trusts: the one owner, off the workers; read without a lock        on the worker or the probe thread
//! ```
//! A trust is made anew when its words or its files change, and the one before is retired: no connection and no session
//! of before is used after. Knows no HTTP.

pub mod connect;
pub mod files;
pub mod trust;
pub mod trusts;
pub mod verify;

pub use connect::{OpenError, Secure, open};
pub use trust::Trust;
pub use trusts::{IdentityState, Trusts};
