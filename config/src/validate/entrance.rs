//! What requests must show: merges what a route says of each step over what its app says. A step that is written replaces the
//! whole step below it, and `off` takes it away. Does not judge the steps themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Scope, auth, authorizer, cors};
use crate::model::Entrance;
use crate::names::{AppName, ClusterName};
use crate::raw::{Off, RawAuth, RawAuthorizer, RawCors};

/// What is written of it on an app or a route.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written<'a> {
    pub(super) cors: Option<&'a Off<RawCors>>,
    pub(super) auth: Option<&'a Off<RawAuth>>,
    pub(super) authorizer: Option<&'a Off<RawAuthorizer>>,
}

/// Lays what is written over what stands below. Shares what is below when nothing is written.
pub(super) fn over(
    scope: &mut Scope<'_, '_>,
    (app, clusters): (&AppName, &BTreeSet<ClusterName>),
    below: Option<&Arc<Entrance>>,
    written: &Written<'_>,
) -> Option<Arc<Entrance>> {
    if written.cors.is_none() && written.auth.is_none() && written.authorizer.is_none() {
        return below.cloned();
    }
    let mut made = below.map(|below| (**below).clone()).unwrap_or_default();
    match written.cors {
        None => {}
        Some(Off::Off) => made.cors = None,
        Some(Off::Set(raw)) => made.cors = cors::cors(scope, raw).map(Arc::new),
    }
    match written.auth {
        None => {}
        Some(Off::Off) => made.auth = None,
        Some(Off::Set(raw)) => made.auth = auth::auth(scope, app, raw).map(Arc::new),
    }
    match written.authorizer {
        None => {}
        Some(Off::Off) => made.authorizer = None,
        Some(Off::Set(raw)) => made.authorizer = authorizer::authorizer(scope, clusters, raw).map(Arc::new),
    }
    (made != Entrance::default()).then(|| Arc::new(made))
}
