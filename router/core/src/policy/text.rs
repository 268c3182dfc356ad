//! Texts of a request that keys are made of: of limits and of shards. Shows octets in runs; copies nothing that needs no
//! decoding, and allocates nothing. Does not hash.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use ekiden_config::model::KeyPart;

use super::limit::Asked;
use crate::{cookie, query};

/// Shows the octets of a part, in runs; false when the request does not have it.
pub(crate) fn each_run(part: &KeyPart, asked: &Asked<'_>, visit: &mut dyn FnMut(&[u8])) -> bool {
    match part {
        KeyPart::Header(name) => {
            let mut found = false;
            asked.fields.each(name, &mut |value| {
                visit(value);
                found = true;
                false
            });
            found
        }
        KeyPart::Cookie(name) => {
            let mut found = false;
            asked.fields.each("cookie", &mut |field| {
                if let Some(value) = cookie::values(field, name).next() {
                    visit(value);
                    found = true;
                }
                !found
            });
            found
        }
        KeyPart::Query(name) => {
            let raw = query::parameters(asked.query).find(|(raw, _)| query::is_text(raw, name));
            raw.map(|(_, raw)| query::each_octet_run(raw, visit)).is_some()
        }
        KeyPart::Path(number) => segment(asked.path, *number).map(|text| visit(text.as_bytes())).is_some(),
        KeyPart::Host => {
            visit(asked.host.as_bytes());
            !asked.host.is_empty()
        }
        KeyPart::WholePath => {
            visit(asked.path.as_bytes());
            true
        }
        KeyPart::WholeQuery => {
            visit(asked.query.as_bytes());
            true
        }
        KeyPart::Client => asked.client.map(|client| visit(AddressText::new(client).bytes())).is_some(),
        KeyPart::ApiKey => asked.api_key.map(|id| visit(id.as_bytes())).is_some(),
        KeyPart::ClientCert(field) => {
            let value = asked.client_cert.and_then(|certificate| certificate.values(*field).next());
            value.map(|text| visit(text.as_bytes())).is_some()
        }
        // Of limits alone, which look at networks and not at texts.
        KeyPart::Group(_) => false,
    }
}

/// A segment of a path, from 1; none behind the last one.
pub(crate) fn segment(path: &str, number: u8) -> Option<&str> {
    path.strip_prefix('/')?
        .split('/')
        .nth(usize::from(number.checked_sub(1)?))
        .filter(|text| !text.is_empty())
}

/// A client's address as text on the stack: IPv4 as it is, IPv6 its network of 64 bits, since a client has all of it.
struct AddressText {
    text: [u8; 40],
    length: usize,
}

impl AddressText {
    fn new(client: IpAddr) -> Self {
        let mut this = Self { text: [0; 40], length: 0 };
        // 40 octets hold any address, so that writing does not fail.
        let _ = match client.to_canonical() {
            IpAddr::V4(address) => write!(this, "{address}"),
            IpAddr::V6(address) => {
                let network = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX));
                write!(this, "{network}")
            }
        };
        this
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or(&[])
    }
}

impl Write for AddressText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.text.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
