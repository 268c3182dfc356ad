//! The check that does no more than connect, with TLS where the cluster has it.

use super::{Checking, Probe, Target, open_words};
use crate::tls::upstream::open;

/// Passes when the endpoint accepts a connection, and the handshake where there is one; sends nothing more.
#[derive(Debug, Clone, Copy)]
pub struct TcpProbe;

impl Probe for TcpProbe {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async move {
            let opened = open(&target.address, target.secure.as_ref(), None, false).await;
            opened.map(drop).map_err(|error| open_words(&error))
        })
    }
}
