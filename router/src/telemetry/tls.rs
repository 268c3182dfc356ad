//! The families of TLS: handshakes by result, and certificates with their ends. Sums the workers' shards.

use std::sync::Arc;

use ekiden_core::stats::{Counter, HandshakeFailure, TlsShard, WorkerShard};

use super::family::Family;
use crate::tls::{CertificateState, IdentityState};

type Field<'a> = &'a dyn Fn(&TlsShard) -> &Counter;

/// The families.
pub(super) fn families(
    max: usize,
    workers: &[Arc<WorkerShard>],
    certificates: &[CertificateState],
) -> Vec<Family> {
    let total =
        |field: Field<'_>| workers.iter().map(|worker| field(&worker.tls).value()).fold(0, u64::wrapping_add);
    let mut done = Family::counters(
        max,
        "ekiden_tls_handshakes_total",
        "TLS handshakes with clients that were completed, by version and result.",
    );
    let kinds: [(&str, &str, Field<'_>); 4] = [
        ("1.2", "full", &|shard| &shard.full_12),
        ("1.3", "full", &|shard| &shard.full_13),
        ("1.2", "resumed", &|shard| &shard.resumed_12),
        ("1.3", "resumed", &|shard| &shard.resumed_13),
    ];
    for (version, result, field) in kinds {
        done.count(&[("version", version), ("result", result)], total(field));
    }
    let mut failed =
        Family::counters(max, "ekiden_tls_handshake_failures_total", "TLS handshakes that failed, by cause.");
    for failure in HandshakeFailure::ALL {
        failed.count(&[("cause", failure.code())], total(&|shard| shard.failed(failure)));
    }
    let mut refused = Family::counters(
        1,
        "ekiden_tls_handshakes_refused_total",
        "Connections reset because a worker had as many handshakes in progress as it may.",
    );
    refused.count(&[], total(&|shard| &shard.refused));
    let mut open = Family::gauges(
        1,
        "ekiden_tls_handshakes_in_progress",
        "TLS handshakes that have begun and not ended.",
    );
    let in_progress = workers.iter().map(|worker| worker.tls.in_progress.value()).fold(0, u64::wrapping_add);
    open.gauge(&[], in_progress as f64);
    let mut families = vec![done, failed, refused, open];
    families.extend(of_certificates(max, certificates));
    families
}

fn of_certificates(max: usize, certificates: &[CertificateState]) -> [Family; 2] {
    let mut ends = Family::gauges(
        max,
        "ekiden_tls_certificate_not_after_seconds",
        "Last second of the certificate that serves, as Unix time.",
    );
    let mut faults = Family::gauges(
        max,
        "ekiden_tls_certificate_faulty",
        "1 when the files of a certificate cannot be used; the certificate before them, if any, goes on serving.",
    );
    for state in certificates {
        let (listener, file) = (state.listener.as_str(), state.file.display().to_string());
        let labels = [("listener", listener), ("file", file.as_str())];
        if let Some(not_after) = state.not_after {
            ends.gauge(&labels, not_after as f64);
        }
        if state.fault.is_some() {
            faults.gauge(&labels, 1.0);
        }
    }
    [ends, faults]
}

/// The families of what endpoints are shown.
pub(super) fn of_identities(max: usize, identities: &[IdentityState]) -> [Family; 2] {
    let mut ends = Family::gauges(
        max,
        "ekiden_tls_identity_not_after_seconds",
        "Last second of the certificate that endpoints are shown, as Unix time.",
    );
    let mut faults = Family::gauges(
        max,
        "ekiden_tls_identity_faulty",
        "1 when the files of an identity cannot be used; what was read before them, if anything, goes on being shown.",
    );
    for state in identities {
        let file = state.file.display().to_string();
        if let Some(not_after) = state.not_after {
            ends.gauge(&[("file", &file)], not_after as f64);
        }
        if state.is_faulty {
            faults.gauge(&[("file", &file)], 1.0);
        }
    }
    [ends, faults]
}
