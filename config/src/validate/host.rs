//! Hosts: of a route, and of a rewrite or redirect. Lower case, without final dot; IPv6 in brackets and canonical.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Fault;
use crate::address::is_dns_name;
use crate::model::HostMatch;
use crate::raw::shown;

/// Reads the host condition of a route.
pub(super) fn host(text: &str) -> Result<HostMatch, Fault> {
    if text == "*" {
        return Err(bad(text).help("leave `host` out for any host"));
    }
    match text.strip_prefix("*.") {
        Some(suffix) => {
            let suffix = plain(text, suffix)?;
            if suffix.starts_with('[') || suffix.parse::<Ipv4Addr>().is_ok() {
                return Err(bad(text).help("an address has no names below it"));
            }
            Ok(HostMatch::Wildcard(Arc::from(suffix)))
        }
        None => Ok(HostMatch::Exact(Arc::from(plain(text, text)?))),
    }
}

/// Reads a host with an optional port, for rewrites and redirects. The stored form keeps the port.
pub(super) fn authority(text: &str) -> Result<Arc<str>, Fault> {
    let port_at = text
        .rfind(':')
        .filter(|at| !text.ends_with(']') && (text.starts_with('[') || text.find(':') == Some(*at)));
    let Some((host, port)) = port_at.and_then(|at| text.split_at_checked(at)) else {
        return plain(text, text).map(Arc::from);
    };
    let digits = port.trim_start_matches(':');
    if digits.is_empty()
        || !digits.bytes().all(|b| b.is_ascii_digit())
        || digits.parse::<u16>().unwrap_or(0) == 0
    {
        return Err(bad(text).help("the port is a number from 1 to 65535"));
    }
    Ok(Arc::from(format!("{}:{digits}", plain(text, host)?)))
}

/// A host without wildcard and port.
pub(super) fn plain(whole: &str, host: &str) -> Result<String, Fault> {
    if host.contains('/') {
        return Err(bad(whole).help("a host only, without scheme and path"));
    }
    if !host.is_ascii() {
        let help = "write the ASCII form of the name (punycode, `xn--...`), as clients send it";
        return Err(Fault::new("unicode_host", format!("`{}` is not ASCII", shown(whole))).help(help));
    }
    if let Some(inner) = host.strip_prefix('[') {
        let ip: Option<Ipv6Addr> = inner.strip_suffix(']').and_then(|ip| ip.parse().ok());
        return match ip {
            Some(ip) => Ok(format!("[{ip}]")),
            None if inner.contains("]:") => Err(bad(whole).help("leave the port out: the listener has it")),
            None => Err(bad(whole).help("brackets hold an IPv6 address: `[::1]`")),
        };
    }
    if host.contains(':') {
        let help = match host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("write `[{ip}]`"),
            Err(_) => "leave the port out: the listener has it".to_owned(),
        };
        return Err(bad(whole).help(help));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.parse::<Ipv4Addr>().is_ok() || is_dns_name(&host) {
        return Ok(host);
    }
    let fault = bad(whole);
    Err(if host.contains('*') {
        fault.help("`*` stands only as the whole first label: `*.example.com`")
    } else {
        fault
    })
}

fn bad(text: &str) -> Fault {
    Fault::new("bad_host", format!("`{}` is not a host", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let exact = |text: &str| Some(HostMatch::Exact(Arc::from(text)));
        let wild = |text: &str| Some(HostMatch::Wildcard(Arc::from(text)));
        for (text, want) in [
            ("Example.COM", exact("example.com")),
            ("example.com.", exact("example.com")),
            ("*.Example.com", wild("example.com")),
            ("10.0.0.1", exact("10.0.0.1")),
            ("[0:0:0:0:0:0:0:1]", exact("[::1]")),
            ("a_b.example", exact("a_b.example")),
            ("localhost", exact("localhost")),
            ("*", None),
            ("*.10.0.0.1", None),
            ("*.[::1]", None),
            ("a.*.com", None),
            ("**.com", None),
            ("::1", None),
            ("[::1]:80", None),
            ("example.com:80", None),
            ("http://example.com", None),
            ("example.com/a", None),
            ("b\u{fc}cher.de", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.com", None),
            ("300.1.1.1", None),
            ("a b", None),
        ] {
            assert_eq!(host(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn authorities() {
        for (text, want) in [
            ("Example.com:8080", Some("example.com:8080")),
            ("example.com", Some("example.com")),
            ("[::1]:80", Some("[::1]:80")),
            ("[::1]", Some("[::1]")),
            ("::1", None),
            ("example.com:", None),
            ("example.com:0", None),
            ("example.com:65536", None),
            ("example.com:8x", None),
            ("*.example.com", None),
        ] {
            assert_eq!(authority(text).ok().as_deref(), want, "{text}");
        }
    }
}
