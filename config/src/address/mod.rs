//! Addresses as people write them, and whether an address is the process's own.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::Address;
use crate::names::TrustName;

/// What an address text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address to connect to or to bind.
    Address(Address),
    /// A service in DNS (SRV records), to be resolved by control. Lower case, without final dot.
    Service {
        /// [`SERVICE`] and the name.
        name: Arc<str>,
    },
    /// Keys of an etcd, to be followed by control.
    Keys {
        /// [`KEYS`], the name of the `[discovery.NAME]` and the prefix: `etcd:NAME/PREFIX/`.
        name: Arc<str>,
    },
    /// A DNS name with a port, to be resolved by control. Lower case, without final dot.
    Name {
        /// The name.
        name: Arc<str>,
        /// The port, 1..=65535.
        port: u16,
    },
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// No port at the end.
    NoPort,
    /// The port is not a number in 1..=65535.
    BadPort,
    /// Several colons without brackets.
    BareIpv6,
    /// Brackets without an IPv6 address in them.
    BadIpv6,
    /// Neither an IPv4 address nor a DNS name.
    BadName,
    /// No name of a service.
    BadService,
    /// No prefix of keys.
    BadKeys,
    /// A unix socket path that is not absolute, longer than 107 bytes or holds a control character.
    BadUnixPath,
    /// A URL where an address belongs.
    Url,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::NoPort => "has no port",
            AddressError::BadPort => "has a port that is not a number from 1 to 65535",
            AddressError::BareIpv6 => "is an IPv6 address without brackets",
            AddressError::BadIpv6 => "has brackets around something that is not an IPv6 address",
            AddressError::BadName => "is neither an IP address nor a DNS name",
            AddressError::BadService => "is not the name of a service in DNS",
            AddressError::BadKeys => "is not a prefix of keys in etcd",
            AddressError::BadUnixPath => "is not an absolute unix socket path of at most 107 bytes",
            AddressError::Url => "is a URL, not an address",
        })
    }
}

impl std::error::Error for AddressError {}

impl AddressError {
    /// What to write instead.
    pub fn advice(self) -> &'static str {
        match self {
            AddressError::NoPort | AddressError::BadPort => "write \"127.0.0.1:3000\" or \"name:3000\"",
            AddressError::BareIpv6 | AddressError::BadIpv6 => "write \"[::1]:3000\"",
            AddressError::BadName => {
                "write \"127.0.0.1:3000\", \"[::1]:3000\", \"name:3000\" or \"unix:/path\""
            }
            AddressError::BadService => "write \"srv:_http._tcp.web.internal\"; the port comes from DNS",
            AddressError::BadKeys => {
                "write \"etcd:NAME/services/web/\": the keys begin with \"/services/web/\" in the etcd of `[discovery.NAME]`"
            }
            AddressError::BadUnixPath => "write \"unix:/run/app.sock\"",
            AddressError::Url => "leave the scheme and the path away: \"127.0.0.1:3000\"",
        }
    }
}

/// What stands in front of the name of a service.
pub const SERVICE: &str = "srv:";

/// What stands in front of the prefix of keys of an etcd.
pub const KEYS: &str = "etcd:";
/// Longest prefix of keys, in bytes.
const PREFIX_MAX: usize = 256;

/// The name of the etcd and the prefix, of what [`Target::Keys`] has; none of another name.
pub fn keys_of(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(KEYS)?;
    let at = rest.find('/')?;
    rest.split_at_checked(at)
}

/// Longest unix socket path, in bytes: `sun_path` without its final NUL.
pub const UNIX_PATH_MAX: usize = 107;

/// Reads `IP:PORT`, `[v6]:PORT`, `unix:/path`, `name:PORT`, `srv:NAME` or `etcd:NAME/PREFIX/`. Called by validation and by the API of control.
pub fn parse(text: &str) -> Result<Target, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        let good =
            path.starts_with('/') && path.len() <= UNIX_PATH_MAX && !path.chars().any(char::is_control);
        return if good {
            Ok(Target::Address(Address::Unix(Arc::from(path))))
        } else {
            Err(AddressError::BadUnixPath)
        };
    }
    // A host may be called `srv`, and then a port is behind it.
    let service = text.strip_prefix(SERVICE).filter(|rest| !rest.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(service) = service {
        let name = service.strip_suffix('.').unwrap_or(service);
        return match is_dns_name(name) {
            true => {
                Ok(Target::Service { name: Arc::from(format!("{SERVICE}{}", name.to_ascii_lowercase())) })
            }
            false => Err(AddressError::BadService),
        };
    }
    // A host may be called `etcd` too.
    if text.strip_prefix(KEYS).is_some_and(|rest| !rest.bytes().all(|byte| byte.is_ascii_digit())) {
        let good = keys_of(text).is_some_and(|(name, prefix)| is_plain(name) && is_prefix(prefix));
        return if good { Ok(Target::Keys { name: Arc::from(text) }) } else { Err(AddressError::BadKeys) };
    }
    if text.contains("://") {
        return Err(AddressError::Url);
    }
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
    if host.starts_with('[') && text.ends_with(']') {
        return Err(AddressError::NoPort);
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(AddressError::BareIpv6);
    }
    let port = parse_port(port)?;
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|ip| ip.parse().ok()).ok_or(AddressError::BadIpv6)?;
        return Ok(Target::Address(Address::Tcp(SocketAddr::new(IpAddr::V6(ip), port))));
    }
    if let Ok(ip) = host.parse() {
        return Ok(Target::Address(Address::Tcp(SocketAddr::new(IpAddr::V4(ip), port))));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if !is_dns_name(name) {
        return Err(AddressError::BadName);
    }
    Ok(Target::Name { name: Arc::from(name.to_ascii_lowercase()), port })
}

fn is_plain(name: &str) -> bool {
    TrustName::new(name).is_ok()
}

/// A prefix ends where a part of the key ends, so that `/services/web/` does not take `/services/web-2/` in.
fn is_prefix(prefix: &str) -> bool {
    (2..=PREFIX_MAX).contains(&prefix.len())
        && prefix.ends_with('/')
        && prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::BadPort);
    }
    text.parse().ok().filter(|port| *port > 0).ok_or(AddressError::BadPort)
}

/// Whether a text is a DNS name: labels of 1 to 63 letters, digits, `-` and `_`, no `-` at an edge of a label, at
/// most 253 bytes, and not all digits and dots (that would be a mistyped IPv4 address).
pub fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

/// Whether connecting to `endpoint` would reach a socket of this process bound to `own`. A wildcard bind is
/// reached through loopback, the wildcard itself and every address in `local` (those of the machine's interfaces;
/// validation knows none and passes an empty slice). Called by validation and again by control after DNS and by
/// the router at connect.
pub fn is_own(endpoint: &Address, own: &Address, local: &[IpAddr]) -> bool {
    match (endpoint, own) {
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Tcp(a), Address::Tcp(b)) => a.port() == b.port() && reaches(a.ip(), b.ip(), local),
        (Address::Unix(_), Address::Tcp(_)) | (Address::Tcp(_), Address::Unix(_)) => false,
    }
}

fn reaches(target: IpAddr, bound: IpAddr, local: &[IpAddr]) -> bool {
    let (target, bound) = (target.to_canonical(), bound.to_canonical());
    if target == bound {
        return true;
    }
    // Connecting to the wildcard goes to loopback.
    let here =
        target.is_loopback() || target.is_unspecified() || local.iter().any(|ip| ip.to_canonical() == target);
    if bound.is_unspecified() {
        // [::] takes IPv4 too on a dual-stack socket; 0.0.0.0 never takes IPv6, except the IPv6 wildcard target.
        return here && (bound.is_ipv6() || target.is_ipv4() || target.is_unspecified());
    }
    target.is_unspecified() && bound.is_loopback()
}

/// Whether two sockets of one process may not both be bound: the same address, or one wildcard over the other.
pub fn overlaps(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Tcp(a), Address::Tcp(b)) => {
            let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
            let covers =
                |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
            a.port() == b.port() && (ip_a == ip_b || covers(ip_a, ip_b) || covers(ip_b, ip_a))
        }
        (Address::Unix(_), Address::Tcp(_)) | (Address::Tcp(_), Address::Unix(_)) => false,
    }
}
