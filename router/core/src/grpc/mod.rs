//! What a router has to know of gRPC: which requests are calls, how they end, and how long they may take.
//!
//! `status` says how a call ended (the only place that maps anything to a status of gRPC), `timeout` reads and writes
//! `grpc-timeout`, `health` the messages of a health check, `web` the form that browsers speak. Pure; does not carry bytes.
//! Sources: "gRPC over HTTP2", "gRPC Web" and "HTTP to gRPC Status Code Mapping" of the gRPC project.

pub mod ext_authz;
pub mod health;
pub mod status;
pub mod timeout;
pub mod web;

pub use status::GrpcStatus;

/// The form in which a call is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gRPC: trailers are trailers.
    Grpc,
    /// gRPC-web: trailers are the last frame of the body.
    Web,
    /// gRPC-web in base64.
    WebText,
}

impl Kind {
    /// The form that a `Content-Type` names, and what it says of the messages (`+proto`, or nothing). None when it is no call.
    pub fn of(content_type: &[u8]) -> Option<(Self, &[u8])> {
        let end = content_type.iter().position(|b| *b == b';').unwrap_or(content_type.len());
        let media = content_type.get(..end)?.trim_ascii();
        // The longest name first: each is the beginning of the one before.
        for (name, kind) in [
            (&b"application/grpc-web-text"[..], Self::WebText),
            (b"application/grpc-web", Self::Web),
            (b"application/grpc", Self::Grpc),
        ] {
            if let Some((head, rest)) = media.split_at_checked(name.len())
                && head.eq_ignore_ascii_case(name)
                && matches!(rest.first(), None | Some(b'+'))
            {
                return Some((kind, rest));
            }
        }
        None
    }

    /// The media type of an answer without messages.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        }
    }

    /// Whether it is a form of gRPC-web.
    pub const fn is_web(self) -> bool {
        match self {
            Self::Grpc => false,
            Self::Web | Self::WebText => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_requests_are_calls() {
        for (text, kind) in [
            ("application/grpc", Some((Kind::Grpc, ""))),
            ("application/grpc+proto", Some((Kind::Grpc, "+proto"))),
            ("Application/gRPC+json; charset=utf-8", Some((Kind::Grpc, "+json"))),
            ("application/grpc ;a=b", Some((Kind::Grpc, ""))),
            ("application/grpc-web", Some((Kind::Web, ""))),
            ("application/grpc-web+proto", Some((Kind::Web, "+proto"))),
            ("application/grpc-web-text", Some((Kind::WebText, ""))),
            ("application/grpc-web-text+thrift", Some((Kind::WebText, "+thrift"))),
            ("application/grpc-web-texts", None),
            ("application/grpc-webs", None),
            ("application/grpcs", None),
            ("application/grp", None),
            ("text/plain; application/grpc", None),
            ("", None),
        ] {
            let found = Kind::of(text.as_bytes());
            assert_eq!(found, kind.map(|(kind, rest)| (kind, rest.as_bytes())), "{text:?}");
        }
    }
}
