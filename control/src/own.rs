//! Whether an endpoint is an address of this very process: its control or telemetry socket.
//!
//! `ekiden_config::address::is_own` decides; this file only finds out which addresses the machine has, by binding
//! a datagram socket without sending anything.

use std::net::{IpAddr, UdpSocket};

use ekiden_config::address::is_own;
use ekiden_config::model::{Address, Endpoint};

/// The process's own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Own(pub(crate) Vec<Address>);

impl Own {
    /// Whether connecting to the endpoint would reach this process's control or telemetry socket.
    pub(crate) fn holds(&self, endpoint: &Endpoint) -> bool {
        self.0.iter().any(|own| {
            is_own(&endpoint.address, own, &[])
                || wildcard_of(own, &endpoint.address)
                    .is_some_and(|ip| is_own(&endpoint.address, own, &[ip]) && is_local(ip))
        })
    }
}

/// The endpoint's IP when only the machine's interfaces can tell: same port, own side bound to the wildcard.
fn wildcard_of(own: &Address, endpoint: &Address) -> Option<IpAddr> {
    match (own, endpoint) {
        (Address::Tcp(own), Address::Tcp(to)) if own.port() == to.port() && own.ip().is_unspecified() => {
            Some(to.ip())
        }
        (Address::Tcp(_) | Address::Unix(_), Address::Tcp(_) | Address::Unix(_)) => None,
    }
}

fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::Owner;
    use ekiden_config::names::EndpointId;

    use super::*;
    use crate::address::parse_address;

    #[test]
    fn own_addresses_are_known_also_by_wildcard() {
        let rows = [
            ("127.0.0.1:9902", "127.0.0.1:9902", true),
            ("127.0.0.1:9902", "127.0.0.1:9903", false),
            ("127.0.0.1:9902", "0.0.0.0:9902", true),
            ("0.0.0.0:9902", "127.0.0.1:9902", true),
            ("0.0.0.0:9902", "127.8.8.8:9902", true),
            // TEST-NET-1: no machine has it.
            ("0.0.0.0:9902", "192.0.2.1:9902", false),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:/run/a.sock", "127.0.0.1:9902", false),
        ];
        for (own, to, want) in rows {
            let own = Own(vec![parse_address(own).unwrap()]);
            let endpoint = Endpoint {
                id: EndpointId::new("a").unwrap(),
                address: parse_address(to).unwrap(),
                weight: 1,
                priority: 0,
                drain: false,
                tags: None,
                owner: Owner::Api,
            };
            assert_eq!(own.holds(&endpoint), want, "{own:?} {to}");
        }
    }
}
