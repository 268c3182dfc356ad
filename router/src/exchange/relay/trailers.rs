//! Which trailers go to the other end. Does not decode them.

use ekiden_config::model::HeaderEdits;
use ekiden_core::outcome::Cause;

use crate::exchange::downstream::Downstream;
use crate::exchange::out::Out;
use crate::exchange::request_out::edits_name;
use crate::head::FieldId;
use crate::wire::chunked::trailer_fields;

/// Passes the trailers of a response on, without those that may not stand there.
pub(super) fn put_trailers<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    section: &[u8],
    edits: &HeaderEdits,
) -> Result<(), Cause> {
    client.trailers(out, |put| {
        for (name, value) in trailer_fields(section) {
            if may_trail_down(name)? && !edits_name(edits, name) {
                put(name, value);
            }
        }
        Ok(())
    })
}

/// Whether a trailer of a response is passed on. Metadata of gRPC may have `_` in their names.
pub(super) fn may_trail_down(name: &[u8]) -> Result<bool, Cause> {
    is_end_to_end(name).map_err(|_| Cause::ResponseMalformed)
}

/// Whether a trailer of a request is passed on.
pub(super) fn may_trail(name: &[u8]) -> Result<bool, Cause> {
    Ok(is_end_to_end(name)? && !name.contains(&b'_'))
}

/// Whether a trailer is for the other end. Framing fields end the exchange; identity and forwarding fields are dropped.
fn is_end_to_end(name: &[u8]) -> Result<bool, Cause> {
    let id = FieldId::of(name);
    match id {
        FieldId::ContentLength | FieldId::TransferEncoding => Err(Cause::TrailerMalformed),
        // It announces trailers, and comes too late for that.
        FieldId::Trailer
        | FieldId::Host
        | FieldId::Authorization
        | FieldId::Cookie
        | FieldId::SetCookie
        | FieldId::XRouterError
        | FieldId::XRouterLoad => Ok(false),
        _ => Ok(!id.is_forwarding() && !id.is_hop_by_hop()),
    }
}
