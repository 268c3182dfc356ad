//! Networks: an address or a CIDR text, without bits beyond its length.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::Fault;
use crate::raw::shown;

/// Prefix length of the IPv4-mapped part of IPv6.
const MAPPED: u8 = 96;

/// Reads a network. IPv4 stands in its own family: clients are compared in theirs, so that a mapped network would match
/// nobody.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let net: Option<IpNet> = text.parse().ok().or_else(|| text.parse().ok().map(|ip: IpAddr| ip.into()));
    let Some(net) = net else {
        return Err(Fault::new("bad_network", format!("`{}` is not an address or network", shown(text)))
            .help("write \"10.0.0.0/8\", \"fd00::/8\" or \"10.0.0.1\""));
    };
    if net.addr() != net.network() {
        return Err(Fault::new("bad_network", format!("`{}` has bits set beyond its length", shown(text)))
            .help(format!("write \"{}\"", net.trunc())));
    }
    if let IpNet::V6(net) = net
        && let Some(plain) = mapped(net)
    {
        return Err(Fault::new("bad_network", format!("`{}` is IPv4 in the clothes of IPv6", shown(text)))
            .help(format!("write \"{plain}\"")));
    }
    Ok(net)
}

/// The IPv4 form of a mapped network.
fn mapped(net: Ipv6Net) -> Option<String> {
    let length = net.prefix_len().checked_sub(MAPPED)?;
    let address = net.network().to_ipv4_mapped()?;
    Some(format!("{address}/{length}"))
}
