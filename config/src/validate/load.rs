//! How endpoints are asked for their load.

use super::{Scope, host};
use crate::model::{Balance, LoadProbes};
use crate::raw::{FlagOr, RawProbeLoad, Spanned, Word};

/// Reads how endpoints are asked; none where they are not, and after a finding.
pub(super) fn probes(
    scope: &mut Scope<'_, '_>,
    balance: Option<Word<Balance>>,
    written: &Spanned<FlagOr<RawProbeLoad>>,
) -> Option<LoadProbes> {
    let standard = LoadProbes { host: None, per_request_percent: 300, at_once: 8 };
    let probes = match &written.value {
        FlagOr::Flag(false) => return None,
        FlagOr::Flag(true) => standard,
        FlagOr::Long(raw) => {
            let host = match &raw.host {
                Some(text) => Some(scope.accept(text.span, host::authority(&text.value))?),
                None => None,
            };
            LoadProbes {
                host,
                per_request_percent: raw.per_request.map_or(standard.per_request_percent, |of| of.0),
                at_once: raw.at_once.and_then(|of| u32::try_from(of).ok()).unwrap_or(standard.at_once),
            }
        }
    };
    if balance.map(|word| word.0) != Some(Balance::Prequal) {
        let message = "only `prequal` goes by the load of endpoints";
        let help = "write `balance = \"prequal\"`, or leave `probe_load` out";
        scope.report.error_help(written.span, "no_meaning", message, help);
    }
    Some(probes)
}
