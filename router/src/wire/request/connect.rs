//! The head of a plain CONNECT (RFC 9110 section 9.3.6): a host and a port, and nothing that a body could begin with.
//!
//! It asks for a tunnel. Whether there is one for it is the route's to say (`exchange::run`); the bytes behind it are never read as a
//! request, whatever becomes of it.

use ekiden_core::host;
use ekiden_core::outcome::Cause;

use super::{Fields, RequestHead, Rules, TargetForm};
use crate::head::{FieldId, Span};
use crate::wire::{Version, decimal};

impl RequestHead {
    /// Judges a head whose method is CONNECT. A target without host or port is refused as the method is.
    #[cold]
    pub(super) fn judge_connect<'a>(
        &mut self,
        target: &str,
        (count, lines): (usize, impl Iterator<Item = (&'a str, &'a [u8])>),
        rules: Rules,
    ) -> Result<(), Cause> {
        self.field_count = count;
        let fields = Fields::collect(&mut self.head, lines, rules)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let judged = self.judge_authority(target, &fields, &mut scratch);
        self.scratch = scratch;
        judged?;
        if fields.codings > 0 {
            return Err(Cause::TransferEncodingInvalid);
        }
        // A length of zero says what is so anyway.
        let value = self.head.known(FieldId::ContentLength);
        if fields.lengths > 1 || value.is_some_and(|value| decimal(value) != Some(0)) {
            return Err(Cause::LengthInvalid);
        }
        self.judge_connection()?;
        self.judge_expect()?;
        self.is_connect = true;
        self.asks_upgrade = true;
        self.keep_alive = false;
        Ok(())
    }

    fn judge_authority(&mut self, target: &str, fields: &Fields, scratch: &mut String) -> Result<(), Cause> {
        let asked = host::host_of(target.as_bytes(), scratch).map_err(|_| Cause::MethodRefused)?;
        let port = asked.port.ok_or(Cause::MethodRefused)?;
        match (fields.hosts, self.version) {
            (0, Version::Http11 | Version::Http2) => return Err(Cause::HostMissing),
            (0 | 1, _) => {}
            _ => return Err(Cause::HostRepeated),
        }
        if let Some(value) = self.head.known(FieldId::Host) {
            let mut written = String::new();
            let written = host::host_of(value, &mut written).map_err(|_| Cause::HostIllegal)?;
            // A field without a port says no other port.
            if !written.same_as(&asked, port) {
                return Err(Cause::AuthorityMismatch);
            }
        }
        self.host.push_str(asked.host);
        self.port = Some(port);
        self.target = Span::appended(&mut self.line, target);
        self.path = self.target;
        // There is no path: every route that may take it takes the root.
        self.form = TargetForm::Asterisk;
        Ok(())
    }
}
