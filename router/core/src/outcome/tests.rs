//! Outcomes: codes are unique and stable, and what follows from them is consistent. Keeps `CODES.md` current.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::grpc::GrpcStatus;

use super::{Blame, Cause, Phase, Retry};

/// RFC 9209 section 2.3 and the IANA registry of proxy error types.
const PROXY_ERRORS: &[&str] = &[
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
];

#[test]
fn every_code_is_a_unique_snake_case_word_that_finds_its_cause() {
    let mut seen = BTreeSet::new();
    for (place, cause) in Cause::ALL.iter().enumerate() {
        let code = cause.code();
        assert_eq!(cause.index(), place);
        assert!(seen.insert(code), "{code} stands twice");
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{code}");
        assert_eq!(Cause::from_code(code), Some(*cause));
    }
    assert_eq!(seen.len(), Cause::COUNT);
    assert_eq!(Cause::from_code("no_such_code"), None);
}

#[test]
fn statuses_that_the_issue_names() {
    for (cause, phase, status, h_code) in [
        (Cause::Complete, Phase::Relay, 0, None),
        (Cause::FramingConflict, Phase::Head, 400, Some("H26")),
        (Cause::TransferEncodingUnsupported, Phase::Head, 501, Some("H26")),
        (Cause::MethodRefused, Phase::Head, 405, Some("H26")),
        (Cause::ExpectUnknown, Phase::Head, 417, Some("H26")),
        (Cause::RequestLineTooLong, Phase::Head, 414, Some("H26")),
        (Cause::FieldTooLarge, Phase::Head, 431, Some("H26")),
        (Cause::HeadTimeout, Phase::Head, 408, None),
        (Cause::BodyTimeout, Phase::Send, 408, Some("H28")),
        (Cause::BodyTooLarge, Phase::Send, 413, Some("H26")),
        (Cause::ClientDenied, Phase::Match, 403, None),
        (Cause::HostDenied, Phase::Match, 421, None),
        (Cause::MethodDenied, Phase::Match, 405, None),
        (Cause::ContentTypeDenied, Phase::Match, 415, None),
        (Cause::FieldDenied, Phase::Match, 403, None),
        (Cause::RateLimited, Phase::Match, 429, None),
        (Cause::NoRoute, Phase::Match, 404, None),
        (Cause::MethodNotAllowed, Phase::Match, 405, None),
        (Cause::NoEndpoints, Phase::Connect, 503, Some("H14")),
        (Cause::NoneReady, Phase::Connect, 503, Some("H10")),
        (Cause::QueueFull, Phase::Queue, 503, Some("H11")),
        (Cause::QueueTimeout, Phase::Queue, 503, Some("H20")),
        (Cause::ConnectRefused, Phase::Connect, 503, Some("H21")),
        (Cause::ConnectTimeout, Phase::Connect, 503, Some("H19")),
        (Cause::FirstByteTimeout, Phase::Wait, 504, Some("H12")),
        (Cause::ClosedWithoutResponse, Phase::Wait, 502, Some("H13")),
        (Cause::ResponseMalformed, Phase::Wait, 502, Some("H17")),
        (Cause::ResponseTooLarge, Phase::Wait, 502, Some("H25")),
        (Cause::UpstreamReset, Phase::Wait, 502, Some("H18")),
        (Cause::UpstreamTruncated, Phase::Relay, 502, Some("H18")),
        (Cause::UpstreamIdle, Phase::Relay, 504, Some("H15")),
        (Cause::TotalTimeout, Phase::Wait, 504, Some("H12")),
        (Cause::Drained, Phase::Relay, 503, Some("H24")),
        (Cause::Maintenance, Phase::Match, 503, Some("H80")),
        (Cause::HoldFull, Phase::Queue, 503, Some("H11")),
        (Cause::HoldTimeout, Phase::Queue, 503, Some("H20")),
        (Cause::Overloaded, Phase::Accept, 503, Some("H22")),
        (Cause::Panicked, Phase::Match, 500, Some("H99")),
        (Cause::ClientGone, Phase::Wait, 499, Some("H27")),
        (Cause::ClientIdle, Phase::Send, 408, Some("H28")),
        (Cause::ClientIdle, Phase::Relay, 499, Some("H28")),
        (Cause::Dropped, Phase::Wait, 499, Some("H27")),
    ] {
        let outcome = cause.at(phase);
        assert_eq!((outcome.status(), outcome.h_code()), (status, h_code), "{cause:?} in {phase:?}");
    }
}

#[test]
fn every_outcome_is_consistent() {
    for cause in Cause::ALL {
        for phase in Phase::ALL {
            let outcome = cause.at(*phase);
            let (status, blame) = (outcome.status(), outcome.blame());
            assert_eq!(outcome.code(), cause.code());
            match status {
                0 => assert_eq!(blame, Blame::Nobody, "{cause:?}"),
                400..=499 | 501 => assert_eq!(blame, Blame::Client, "{cause:?}"),
                500 => assert_eq!(blame, Blame::Router, "{cause:?}"),
                502..=504 => assert!(matches!(blame, Blame::Router | Blame::Endpoint), "{cause:?}"),
                _ => panic!("{cause:?} has status {status}"),
            }
            if let Some(error) = outcome.proxy_status() {
                assert!(PROXY_ERRORS.contains(&error), "{error} is not registered");
            } else {
                assert!(matches!(status, 0 | 408 | 499), "{cause:?} needs a Proxy-Status error");
            }
            if outcome.retry_after().is_some() {
                assert_eq!(status, 503, "{cause:?}");
            }
            if outcome.retry() != Retry::Never {
                assert_ne!(blame, Blame::Client, "{cause:?}: a client is never retried for");
                assert!(matches!(phase, Phase::Queue | Phase::Connect | Phase::Send | Phase::Wait));
            }
            if let Some(h_code) = outcome.h_code() {
                assert!(h_code.len() == 3 && h_code.starts_with('H'), "{h_code}");
            }
            for text in [outcome.words(), outcome.advice()] {
                assert!(
                    text.ends_with('.') && text.starts_with(char::is_uppercase),
                    "{text:?} is no sentence"
                );
                assert!(!text.contains(['|', '\n', '"']) || text.contains("loose_path"), "{text:?}");
            }
        }
    }
}

#[test]
fn nothing_is_retried_once_a_response_has_begun() {
    for (cause, phase, retry) in [
        (Cause::ConnectRefused, Phase::Connect, Retry::OtherEndpoint),
        (Cause::EndpointGone, Phase::Queue, Retry::OtherEndpoint),
        (Cause::EndpointGone, Phase::Send, Retry::ReplayIfSafe),
        (Cause::UpstreamReset, Phase::Send, Retry::ReplayIfSafe),
        (Cause::ClosedWithoutResponse, Phase::Wait, Retry::ReplayIfSafe),
        (Cause::UpstreamReset, Phase::Relay, Retry::Never),
        (Cause::FirstByteTimeout, Phase::Wait, Retry::Never),
        (Cause::ClientGone, Phase::Wait, Retry::Never),
    ] {
        assert_eq!(cause.at(phase).retry(), retry, "{cause:?} in {phase:?}");
    }
}

#[test]
fn words_of_phases_and_blames_are_unique() {
    let phases: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.word()).collect();
    assert_eq!(phases.len(), Phase::ALL.len());
    let blames = [Blame::Nobody, Blame::Client, Blame::Router, Blame::Endpoint];
    assert_eq!(blames.iter().map(|blame| blame.word()).collect::<BTreeSet<_>>().len(), blames.len());
}

/// The statuses of a cause over the phases, most common first.
fn statuses(cause: Cause) -> String {
    let mut seen = Vec::new();
    for phase in Phase::ALL {
        let status = match cause.at(*phase).status() {
            0 => "none".to_owned(),
            status => status.to_string(),
        };
        if !seen.contains(&status) {
            seen.push(status);
        }
    }
    seen.join(" or ")
}

fn page() -> String {
    let mut page = String::from(
        "# Codes\n\n\
         Every request ends in one outcome: a cause, named by its code, in a phase. The code stands in the response \
         that the router makes\n(`X-Router-Error`, with the Heroku code beside it, and `Proxy-Status`, RFC 9209), in the \
         access log and in the metrics. Codes are stable.\nA status of 499 is logged, not sent. A call of gRPC gets 200 with the status of gRPC beside it. What was tried again and \
         served leaves no code. This page is made from the code by its tests\n(`EKIDEN_BLESS=1 cargo test -p \
         ekiden-core` writes it anew).\n\n\
         | code | status | gRPC | Heroku | to blame | tried again | Proxy-Status error | Retry-After | what happened | what to do |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cause in Cause::ALL {
        // In the phase where a retry is most likely, so that the page names it.
        let outcome = cause.at(Phase::Connect);
        let seconds = outcome.retry_after().map_or(String::new(), |seconds| format!("{seconds} s"));
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cause.code(),
            statuses(*cause),
            GrpcStatus::of_outcome(outcome).word(),
            outcome.h_code().unwrap_or(""),
            outcome.blame().word(),
            outcome.retry().word(),
            outcome.proxy_status().unwrap_or(""),
            seconds,
            outcome.words(),
            outcome.advice(),
        )
        .unwrap();
    }
    page
}

#[test]
fn the_page_of_codes_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CODES.md");
    if std::env::var_os("EKIDEN_BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == page(), "CODES.md is not current: run the tests with EKIDEN_BLESS=1");
}
