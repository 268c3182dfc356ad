//! Which protocols a route switches to. Does not say how long a tunnel may be idle (`Timeouts` does).

use std::sync::{Arc, LazyLock};

/// What routes that say nothing switch to: one list for all of them.
static USUAL: LazyLock<Arc<[Arc<str>]>> = LazyLock::new(|| Arc::from([Arc::from("websocket")]));

/// Protocols that a client may ask for with `Upgrade` (RFC 9110 section 7.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrades {
    /// Names, with `/VERSION` where one was written; compared without regard to case. `h2c` is refused by `validate`. At
    /// most 16.
    pub protocols: Arc<[Arc<str>]>,
}

impl Upgrades {
    /// The place of a protocol in the list.
    pub fn find(&self, protocol: &[u8]) -> Option<u8> {
        let place = self.protocols.iter().position(|own| own.as_bytes().eq_ignore_ascii_case(protocol))?;
        u8::try_from(place).ok()
    }

    /// The protocol at a place of the list.
    pub fn protocol(&self, place: u8) -> Option<&Arc<str>> {
        self.protocols.get(usize::from(place))
    }
}

impl Default for Upgrades {
    fn default() -> Self {
        Self { protocols: Arc::clone(&USUAL) }
    }
}
