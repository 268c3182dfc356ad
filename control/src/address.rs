//! Addresses as people and programs write them to control: endpoint addresses of the API and of the journal, and
//! the flags of the command line. The grammar itself is `ekiden_config::address`.

use std::net::SocketAddr;
use std::str::FromStr;

use ekiden_config::address::{Target, parse};
use ekiden_config::model::Address;

/// Reads an endpoint's address; the error is a text for people. A DNS name is refused with where it belongs.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    match parse(text) {
        Ok(Target::Address(address)) => Ok(address),
        Ok(Target::Name { .. } | Target::Service { .. }) => Err(format!(
            "{text:?} is a DNS name; the API takes IP:PORT or unix:/path, names belong in a configuration file"
        )),
        Ok(Target::Keys { .. }) => Err(format!(
            "{text:?} names keys of an etcd; an address is IP:PORT or unix:/path, keys belong in a configuration file"
        )),
        Err(error) => Err(format!("{text:?} {error}; {}", error.advice())),
    }
}

/// A flag that may replace an address of the file: `--control` and `--telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AddressFlag {
    /// Not given: what the file says.
    #[default]
    FromFile,
    /// `off`: not served.
    Off,
    /// Served here, whatever the file says.
    At(Address),
}

impl FromStr for AddressFlag {
    type Err = String;

    /// `off`, `IP:PORT` (port 0 takes any free port) or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(AddressFlag::Off);
        }
        if let Ok(address) = SocketAddr::from_str(text) {
            return Ok(AddressFlag::At(Address::Tcp(address)));
        }
        match parse(text) {
            Ok(Target::Address(address)) => Ok(AddressFlag::At(address)),
            Ok(Target::Name { .. } | Target::Service { .. } | Target::Keys { .. }) | Err(_) => {
                Err(format!("{text:?} is neither off, IP:PORT nor unix:/path"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_refuses_the_rest() {
        for good in ["127.0.0.1:3000", "[::1]:80", "unix:/run/web.sock"] {
            assert_eq!(parse_address(good).unwrap().to_string(), good);
        }
        for bad in ["", "web:80", "127.0.0.1", "127.0.0.1:0", "::1:80:", "unix:web.sock", "127.0.0.1:70000"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_flag_is_off_or_an_address() {
        assert_eq!("off".parse(), Ok(AddressFlag::Off));
        assert_eq!("127.0.0.1:0".parse(), Ok(AddressFlag::At(Address::Tcp("127.0.0.1:0".parse().unwrap()))));
        assert!("somewhere".parse::<AddressFlag>().is_err());
    }
}
