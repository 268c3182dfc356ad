//! Claims of a token as conditions of routes see them. Verifies no tokens and reads none: whoever has the keys shows what a token says.

use std::sync::Arc;

use ekiden_config::model::{Route, ValueCondition, ValueTest};
use ekiden_config::names::{AppName, TrustName};

use crate::table::RouteEntry;

/// Who looks at a token.
#[derive(Debug, Clone, Copy)]
pub struct Looker<'a> {
    /// The app of the rule.
    pub app: &'a AppName,
    /// Who must have signed the token.
    pub issuer: &'a TrustName,
    /// The rule, where it is compiled.
    pub entry: Option<&'a Arc<RouteEntry>>,
}

/// The token of a request.
pub trait Claims {
    /// Shows the values of a claim as texts until `visit` returns false: those of a token that was verified by the keys of this issuer,
    /// and of an issuer that the app may use. Called for routes with conditions on claims alone, once all else of them holds.
    fn look(&self, looker: &Looker<'_>, claim: &str, visit: &mut dyn FnMut(&str) -> bool) -> Claim;
}

/// What a token says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// There is no token, or none that is good.
    NoToken,
    /// Nothing.
    Absent,
    /// It has it, though perhaps not as a text.
    There,
}

/// What is known of a request's claims when it is matched.
#[derive(Clone, Copy, Default)]
pub enum Shown<'a> {
    /// Nothing: no condition on claims holds.
    #[default]
    Nothing,
    /// It asks about another request, which may have any: all conditions on claims hold.
    Any,
    /// What its token says.
    Token(&'a dyn Claims),
}

/// Who must have signed the tokens that conditions of a route look at.
pub fn issuer(route: &Route) -> Option<&TrustName> {
    Some(&route.entrance.as_ref()?.auth.as_ref()?.tokens.as_ref()?.issuer)
}

/// Whether a condition of the rule holds. Without a good token none does, not even that a claim is not there.
pub(crate) fn holds(
    (app, route, entry): (&AppName, &Route, Option<&Arc<RouteEntry>>),
    condition: &ValueCondition,
    shown: Shown<'_>,
) -> bool {
    let token = match shown {
        Shown::Nothing => return false,
        Shown::Any => return true,
        Shown::Token(token) => token,
    };
    let Some(issuer) = issuer(route) else { return false };
    let mut found = false;
    let claim = token.look(&Looker { app, issuer, entry }, &condition.name, &mut |value| {
        found |= match &condition.test {
            ValueTest::Present | ValueTest::Absent => true,
            ValueTest::Equals(text) => **text == *value,
            ValueTest::Regex(expression) => expression.regex.is_match(value),
        };
        !found
    });
    match (claim, &condition.test) {
        (Claim::NoToken, _) => false,
        (_, ValueTest::Present) => claim == Claim::There,
        (_, ValueTest::Absent) => claim == Claim::Absent,
        (_, ValueTest::Equals(_) | ValueTest::Regex(_)) => found,
    }
}
