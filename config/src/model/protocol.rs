//! What a listener carries. Does not say what has no meaning there (`validate::raw` does).

/// What the connections of a listener carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ListenerProtocol {
    /// HTTP, with or without TLS.
    #[default]
    Http,
    /// Bytes that the router does not look at.
    Tcp,
    /// TLS that is not ended here: only the host of the ClientHello is read.
    TlsPassthrough,
}

impl ListenerProtocol {
    /// The word in configuration and logs.
    pub const fn word(self) -> &'static str {
        match self {
            ListenerProtocol::Http => "http",
            ListenerProtocol::Tcp => "tcp",
            ListenerProtocol::TlsPassthrough => "tls-passthrough",
        }
    }
}
