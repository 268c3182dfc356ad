//! What a connection to an endpoint begins with when its cluster is sent the PROXY protocol. Does not connect.

use ekiden_config::model::{Address, Listener, ProxyVersion};

use crate::exchange::Workspace;
use crate::exchange::downstream::Downstream;
use crate::record::Protocol;
use crate::wire::proxy::{self, Said};
use crate::worker::connection::Connection;

/// The header for a request's connection: the client and the address it connected to; in version 2 also host and protocol
/// of its TLS handshake and the request id.
pub fn header<D: Downstream>(
    version: ProxyVersion,
    connection: &Connection<D>,
    ws: &Workspace,
    listener: &Listener,
) -> Vec<u8> {
    let configured = match &listener.address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    };
    let session = ws.session.as_deref();
    let said = Said {
        addresses: ws.peer.zip(connection.stream.local_address().or(configured)),
        alpn: session.and_then(|session| session.alpn.as_deref()),
        name: match session {
            Some(session) => session.name.as_deref(),
            None if ws.trace.protocol == Some(Protocol::TlsPassthrough) => Some(&ws.request.host),
            None => None,
        },
        id: &ws.trace.request_id,
    };
    let mut bytes = Vec::with_capacity(proxy::LINE_MAX);
    match version {
        ProxyVersion::V1 => proxy::put_line(&mut bytes, &said),
        ProxyVersion::V2 => proxy::put_binary(&mut bytes, &said),
    }
    bytes
}

/// The header of a connection of the router's own, such as a check.
pub fn own_header(version: ProxyVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    match version {
        ProxyVersion::V1 => proxy::put_line(&mut bytes, &Said::default()),
        ProxyVersion::V2 => proxy::put_local(&mut bytes),
    }
    bytes
}
