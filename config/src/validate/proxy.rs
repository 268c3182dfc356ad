//! Whose headers of the PROXY protocol a listener believes. What is sent to endpoints is a word of the cluster.

use std::sync::Arc;

use super::{Scope, network};
use crate::model::ProxySources;
use crate::raw::Spanned;

/// The word for peers over a unix socket.
const UNIX: &str = "unix";

/// Reads the list; none when nothing is written.
pub(super) fn sources(
    scope: &mut Scope<'_, '_>,
    raw: Option<&Vec<Spanned<String>>>,
) -> Option<Arc<ProxySources>> {
    let mut sources = ProxySources::default();
    for text in raw? {
        if text.value == UNIX {
            sources.unix = true;
        } else {
            sources.networks.extend(scope.accept(text.span, network(&text.value)));
        }
    }
    Some(Arc::new(sources))
}
