//! The PROXY protocol: whose headers are believed, and which version is sent. Reads no header (the router does).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Who must begin each connection with a header of the PROXY protocol. Others are clients themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxySources {
    /// Networks, each in its own family.
    pub networks: Vec<IpNet>,
    /// Peers over a unix socket.
    pub unix: bool,
}

impl ProxySources {
    /// Whether connections of this peer begin with a header; none is a peer over a unix socket.
    pub fn takes(&self, peer: Option<SocketAddr>) -> bool {
        match peer.map(|peer| peer.ip().to_canonical()) {
            Some(address) => self.takes_address(address),
            None => self.unix,
        }
    }

    fn takes_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// A version of the PROXY protocol, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text: addresses alone.
    V1,
    /// Binary, with what else is known.
    V2,
}
