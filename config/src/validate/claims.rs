//! Conditions on claims: the tokens that they look at must have an issuer, and an app has few of those. Reads no tokens.

use std::collections::BTreeSet;

use super::{Scope, condition};
use crate::model::{CLAIM_ISSUERS_MAX, Entrance, ValueCondition};
use crate::names::TrustName;
use crate::raw::{Off, RawRoute};

/// Who signs the tokens that a route lets in.
pub(super) fn issuer(entrance: &Entrance) -> Option<&TrustName> {
    Some(&entrance.auth.as_ref()?.tokens.as_ref()?.issuer)
}

/// Reads the conditions of a route, and judges them by who may sign its tokens; `issuers` are those of the routes before.
pub(super) fn conditions(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    entrance: Option<&Entrance>,
    issuers: &mut BTreeSet<TrustName>,
) -> Vec<ValueCondition> {
    judge(scope, raw, entrance, issuers);
    condition::plain(scope, raw.claims.as_ref())
}

fn judge(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    entrance: Option<&Entrance>,
    issuers: &mut BTreeSet<TrustName>,
) {
    let Some(claims) = raw.claims.as_ref().filter(|claims| !claims.0.is_empty()) else { return };
    let span = claims.0.first().map_or(raw.span, |(name, _)| name.span);
    let Some(issuer) = entrance.and_then(issuer) else {
        // What is wrong with a name has been said.
        if !matches!(&raw.auth, Some(Off::Set(auth)) if auth.jwt.is_some()) {
            let message = "the route looks at claims, and nobody is named who signs its tokens";
            let help = "write `auth = { jwt = \"NAME\" }` on the route or the app, or take out `claims`";
            scope.report.error_help(span, "claims_without_jwt", message, help);
        }
        return;
    };
    issuers.insert(issuer.clone());
    if issuers.len() > CLAIM_ISSUERS_MAX {
        let message = format!("routes with `claims` name more than {CLAIM_ISSUERS_MAX} issuers of tokens");
        let help =
            "each is tried on a request before its route is known; let fewer sign, or make it another app";
        scope.report.error_help(span, "too_many_issuers", message, help);
    }
}
