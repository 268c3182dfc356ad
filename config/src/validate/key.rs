//! Keys by which requests are told apart or dealt out: one part, or a template of several. Does not judge where a key may stand.

use std::sync::Arc;

use super::{Fault, field};
use crate::model::{CertField, Group, KeyPart, KeyPiece};
use crate::raw::shown;

/// Parts of one key.
const PARTS_MAX: usize = 8;

/// What a key is for: how its faults are named, and what it may hold.
pub(super) struct Keys<'a> {
    /// Code of a fault.
    pub(super) code: &'static str,
    /// As in `no key of a limit`.
    pub(super) of: &'static str,
    /// What may be written.
    pub(super) help: &'static str,
    /// Groups of clients, where the key may name them.
    pub(super) groups: Option<&'a Arc<[Group]>>,
    /// Keys of programs are known where it stands.
    pub(super) api_key: bool,
}

impl Keys<'_> {
    fn bad(&self, text: &str) -> Fault {
        Fault::new(self.code, format!("`{}` is no key of {}", shown(text), self.of)).help(self.help)
    }

    /// One part alone, or parts in braces with any text between them.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<KeyPiece>, Fault> {
        if !text.contains(['{', '}']) {
            return self.part(text).map(|part| vec![KeyPiece::Part(part)]);
        }
        let (mut made, mut rest, mut parts) = (Vec::new(), text, 0);
        while let Some((between, behind)) = rest.split_once('{') {
            let (inside, after) = behind.split_once('}').ok_or_else(|| self.bad(text))?;
            if between.contains('}') || inside.contains('{') {
                return Err(self.bad(text));
            }
            let part = KeyPiece::Part(self.part(inside)?);
            if made.contains(&part) {
                return Err(self.bad(text).help("each part stands once"));
            }
            if !between.is_empty() {
                made.push(KeyPiece::Text(Arc::from(between)));
            }
            made.push(part);
            parts += 1;
            rest = after;
        }
        if parts == 0 || parts > PARTS_MAX || rest.contains('}') {
            return Err(self.bad(text));
        }
        if !rest.is_empty() {
            made.push(KeyPiece::Text(Arc::from(rest)));
        }
        Ok(made)
    }

    fn part(&self, text: &str) -> Result<KeyPart, Fault> {
        let bad = || self.bad(text);
        match text.split_once(':') {
            None if text == "client" => Ok(KeyPart::Client),
            None if text == "host" => Ok(KeyPart::Host),
            None if text == "path" => Ok(KeyPart::WholePath),
            None if text == "query" => Ok(KeyPart::WholeQuery),
            None if text == "api_key" && self.api_key => Ok(KeyPart::ApiKey),
            None if text == "group" => match self.groups {
                Some(groups) if groups.is_empty() => {
                    Err(bad().help("name the groups: `groups = { office = [\"192.0.2.0/24\"] }`"))
                }
                Some(groups) => Ok(KeyPart::Group(groups.clone())),
                None => Err(bad()),
            },
            Some(("header", name)) => field::name(name).map(KeyPart::Header),
            Some(("cookie", name)) if !name.is_empty() => Ok(KeyPart::Cookie(Arc::from(name))),
            Some(("query", name)) if !name.is_empty() => Ok(KeyPart::Query(Arc::from(name))),
            Some(("client_cert", word)) => {
                let named = CertField::of(word).map(KeyPart::ClientCert);
                named.ok_or_else(|| bad().help("client_cert:subject, :uri, :dns or :fingerprint"))
            }
            Some(("path", number)) => match number.parse::<u8>() {
                Ok(number @ 1..=32) => Ok(KeyPart::Path(number)),
                _ => Err(bad().help("segments are counted from 1 to 32: `path:1` is the first")),
            },
            _ => Err(bad()),
        }
    }
}
