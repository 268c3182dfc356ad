//! The words that may stand for values of closed sets. Their meaning is the model's.

use crate::model::{
    Balance, ClientAuthMode, DeniedHeaders, LimitFields, ListenerProtocol, LogFormat, LoosePath, MissingKey,
    Priority, Protocol, ProxyVersion, Replay, ReplicaPick, Role, SameSite, ShardAlgorithm, ShardKind,
    TlsVersion, TokenAlgorithm, UnknownName, Verify,
};
use crate::raw::read::{Word, Words};

/// What is written for `denied_headers`.
pub(crate) type DeniedWord = Word<DeniedHeaders>;

/// What a question without an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailWord {
    /// The request is refused.
    Closed,
    /// It goes on.
    Open,
}

/// What becomes of a request whose body is longer than the authorizer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverWord {
    /// It is refused.
    Refuse,
    /// The beginning is shown.
    Partial,
}

impl Words for Role {
    const WORDS: &'static [(&'static str, Self)] =
        &[("edge", Role::Edge), ("inbound", Role::Inbound), ("outbound", Role::Outbound)];
}

impl Words for ListenerProtocol {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("http", ListenerProtocol::Http),
        ("tcp", ListenerProtocol::Tcp),
        ("tls-passthrough", ListenerProtocol::TlsPassthrough),
    ];
}

impl Words for UnknownName {
    const WORDS: &'static [(&'static str, Self)] =
        &[("default", UnknownName::Default), ("refuse", UnknownName::Refuse)];
}

impl Words for ClientAuthMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", ClientAuthMode::None),
        ("optional", ClientAuthMode::Optional),
        ("required", ClientAuthMode::Required),
    ];
}

impl Words for Verify {
    const WORDS: &'static [(&'static str, Self)] =
        &[("full", Verify::Full), ("insecure_none", Verify::InsecureNone)];
}

impl Words for Protocol {
    const WORDS: &'static [(&'static str, Self)] =
        &[("http1", Protocol::Http1), ("h2", Protocol::Http2), ("auto", Protocol::Auto)];
}

impl Words for FailWord {
    const WORDS: &'static [(&'static str, Self)] = &[("closed", FailWord::Closed), ("open", FailWord::Open)];
}

impl Words for OverWord {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", OverWord::Refuse), ("partial", OverWord::Partial)];
}

impl Words for TokenAlgorithm {
    const WORDS: &'static [(&'static str, Self)] = TokenAlgorithm::WORDS;
}

impl Words for TlsVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
}

impl Words for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("p2c", Balance::P2c),
        ("round_robin", Balance::RoundRobin),
        ("least_request", Balance::LeastRequest),
        ("random", Balance::Random),
        ("peak_ewma", Balance::PeakEwma),
        ("prequal", Balance::Prequal),
    ];
}

impl Words for ShardAlgorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("rendezvous", ShardAlgorithm::Rendezvous),
        ("ring", ShardAlgorithm::Ring),
        ("maglev", ShardAlgorithm::Maglev),
        ("ketama", ShardAlgorithm::Ketama),
    ];
}

impl Words for SameSite {
    const WORDS: &'static [(&'static str, Self)] =
        &[("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
}

impl Words for ShardKind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cache", ShardKind::Cache), ("store", ShardKind::Store)];
}

impl Words for ReplicaPick {
    const WORDS: &'static [(&'static str, Self)] =
        &[("primary", ReplicaPick::Primary), ("p2c", ReplicaPick::P2c)];
}

impl Words for Replay {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("idempotent", Replay::Idempotent),
        ("idempotency-key", Replay::IdempotencyKey),
        ("any", Replay::Any),
    ];
}

impl Words for ProxyVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
}

impl Words for LoosePath {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", LoosePath::Refuse), ("allow", LoosePath::Allow)];
}

impl Words for DeniedHeaders {
    const WORDS: &'static [(&'static str, Self)] =
        &[("remove", DeniedHeaders::Remove), ("refuse", DeniedHeaders::Refuse)];
}

impl Words for MissingKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("share", MissingKey::Share), ("skip", MissingKey::Skip)];
}

impl Words for LimitFields {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refused", LimitFields::Refused), ("always", LimitFields::Always), ("never", LimitFields::Never)];
}

impl Words for Priority {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("critical", Priority::Critical),
        ("high", Priority::High),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("json", LogFormat::Json), ("logfmt", LogFormat::Logfmt)];
}
