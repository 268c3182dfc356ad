//! The rows: one per cause, each with all that is said about it. `CODES.md` beside the crate is made from them.
//!
//! To add a cause, add its row at the end of its section and run the tests of this crate with `EKIDEN_BLESS=1`.
//! Codes are promises: a row may be added, its code never changed.

use super::Blame::{Client, Endpoint, Nobody, Router};
use super::Retry::{Never, OtherEndpoint, ReplayIfSafe};
use super::Row;
use super::Rule::{Always, ClientSilence};

macro_rules! causes {
    ($($variant:ident: $code:literal, $rule:expr, $h:literal, $blame:ident, $retry:ident, $proxy:literal, $after:literal,
        $words:literal, $advice:literal;)*) => {
        /// What ended a request. A closed list; each has a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cause {
            $(#[doc = $words] $variant,)*
        }

        impl Cause {
            /// Every cause, in the order of [`Cause::index`].
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)*];

            pub(super) const fn row(self) -> Row {
                match self {
                    $(Cause::$variant => Row {
                        code: $code,
                        rule: $rule,
                        h_code: $h,
                        blame: $blame,
                        retry: $retry,
                        proxy: $proxy,
                        retry_after: $after,
                        words: $words,
                        advice: $advice,
                    },)*
                }
            }
        }
    };
}

// variant: code, status, Heroku code, blame, retry, RFC 9209 error type, Retry-After in seconds, words, advice.
causes! {
    // Served.
    Complete: "complete", Always(0), "", Nobody, Never, "", 0,
        "The request was served.",
        "Nothing is to be done.";
    // The request is refused: it is ambiguous, malformed or beyond a bound.
    FramingConflict: "framing_conflict", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request has both Content-Length and Transfer-Encoding.",
        "Send only one of the two fields.";
    LengthRepeated: "length_repeated", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request has more than one Content-Length value.",
        "Send Content-Length once, with one number.";
    LengthInvalid: "length_invalid", Always(400), "H26", Client, Never, "http_request_error", 0,
        "Content-Length is not a plain decimal number in range.",
        "Send Content-Length as decimal digits only.";
    TransferEncodingInvalid: "transfer_encoding_invalid", Always(400), "H26", Client, Never, "http_request_error", 0,
        "Transfer-Encoding is not exactly one `chunked`.",
        "Send `Transfer-Encoding: chunked` once, or a Content-Length.";
    TransferEncodingUnsupported: "transfer_encoding_unsupported", Always(501), "H26", Client, Never, "http_request_error", 0,
        "The request body has a transfer coding other than chunked.",
        "Send the body chunked or with Content-Length.";
    TransferEncodingInOldVersion: "transfer_encoding_in_old_version", Always(400), "H26", Client, Never, "http_request_error", 0,
        "An HTTP/1.0 request has Transfer-Encoding.",
        "Use HTTP/1.1, or send a Content-Length.";
    ChunkMalformed: "chunk_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A chunk of the request body is malformed.",
        "Send each chunk as a hexadecimal size, CRLF, the data and CRLF.";
    TrailerMalformed: "trailer_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The trailers of the request are malformed or hold a framing field.",
        "Send well-formed trailers without framing fields.";
    LineEndingMalformed: "line_ending_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A line of the request ends in a bare CR or LF.",
        "End every line with CRLF.";
    FieldFolded: "field_folded", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A header field of the request is folded over two lines.",
        "Send each field on one line.";
    FieldMalformed: "field_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A header line of the request is not `name: value` with a legal name.",
        "Send a name of token characters, directly followed by a colon.";
    FieldValueIllegal: "field_value_illegal", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A header value of the request holds a control character.",
        "Send visible characters, spaces and tabs only.";
    HostMissing: "host_missing", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The HTTP/1.1 request has no Host.",
        "Send a Host field.";
    HostRepeated: "host_repeated", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request has more than one Host.",
        "Send exactly one Host field.";
    HostIllegal: "host_illegal", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The Host of the request is not a host with an optional port.",
        "Send a host name or address and, if needed, a port from 1 to 65535.";
    AuthorityMismatch: "authority_mismatch", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The authority of the request target differs from Host.",
        "Send the same authority in both, or a target that begins with `/`.";
    SchemeUnsupported: "scheme_unsupported", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The scheme of the request target is neither http nor https.",
        "Send an http or https target.";
    TargetMalformed: "target_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request target is malformed or holds a fragment.",
        "Send a path that begins with `/`, without `#`.";
    RequestLineMalformed: "request_line_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request line is not method, target and version with one space between them.",
        "Send `METHOD /path HTTP/1.1`.";
    VersionUnsupported: "version_unsupported", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The HTTP version of the request line is neither HTTP/1.0 nor HTTP/1.1.",
        "Use HTTP/1.1.";
    MethodMalformed: "method_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request method is not a legal token.",
        "Send a method of token characters, such as GET.";
    MethodRefused: "method_refused", Always(405), "H26", Client, Never, "http_request_denied", 0,
        "The method CONNECT or TRACE is not served here.",
        "Use another method; CONNECT is for routes that allow it (`connect`), and names a host and one of their ports.";
    ExpectUnknown: "expect_unknown", Always(417), "H26", Client, Never, "http_request_error", 0,
        "The request expects something other than 100-continue.",
        "Leave Expect out, or send `Expect: 100-continue`.";
    Http2Preface: "http2_preface", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The client speaks HTTP/2 without TLS where only HTTP/1 is served.",
        "Use HTTP/1.1 on this address.";
    ConnectionNomination: "connection_nomination", Always(400), "H26", Client, Never, "http_request_error", 0,
        "Connection names a field that may not be removed on the way.",
        "Name only hop-by-hop fields in Connection.";
    UnderscoreField: "underscore_field", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A field name with `_` would read as a forwarding field.",
        "Send the field with `-`, or not at all.";
    RequestLineTooLong: "request_line_too_long", Always(414), "H26", Client, Never, "http_request_error", 0,
        "The request line is longer than the bound of the listener.",
        "Shorten the URL, or raise `limits.request_line`.";
    FieldTooLarge: "field_too_large", Always(431), "H26", Client, Never, "http_request_error", 0,
        "One header field of the request is larger than the bound of the listener.",
        "Send smaller fields (often cookies), or raise `limits.field`.";
    HeadTooLarge: "head_too_large", Always(431), "H26", Client, Never, "http_request_error", 0,
        "The head of the request is larger than the bound of the listener or the route.",
        "Send fewer or smaller fields, or raise `limits.head` or `head_limit`.";
    TooManyFields: "too_many_fields", Always(431), "H26", Client, Never, "http_request_error", 0,
        "The request has more header fields than the bound of the listener or the route.",
        "Send fewer fields, or raise `limits.fields` or `fields_limit`.";
    HeadTimeout: "head_timeout", Always(408), "", Client, Never, "http_request_error", 0,
        "The request head did not arrive in time.",
        "Send the whole head at once, or raise `limits.head_deadline`.";
    BodyTimeout: "body_timeout", Always(408), "H28", Client, Never, "http_request_error", 0,
        "The client sent nothing of the request body for too long.",
        "Send the body without long pauses, or raise `limits.body_idle`.";
    BodyTooLarge: "body_too_large", Always(413), "H26", Client, Never, "http_request_error", 0,
        "The request body is larger than the bound.",
        "Send a smaller body, or raise `body_limit`.";
    BodyTruncated: "body_truncated", Always(400), "H27", Client, Never, "http_request_error", 0,
        "The client ended the connection inside the request body.",
        "Send as many bytes as announced.";
    BodyTooSlow: "body_too_slow", Always(408), "H28", Client, Never, "http_request_error", 0,
        "The client sent the request body more slowly than the listener takes.",
        "Send the body faster, or lower `limits.min_body_rate`.";
    GrpcTimeoutMalformed: "grpc_timeout_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The grpc-timeout of a call is not one to eight digits and a unit, or stands twice.",
        "Send grpc-timeout once, such as `250m`; units are H, M, S, m, u and n.";
    GrpcWebMalformed: "grpc_web_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The body of a gRPC-web request in text form is not base64.",
        "Send base64 with padding and without line ends, or the binary form.";
    WebsocketKeyInvalid: "websocket_key_invalid", Always(400), "H26", Client, Never, "http_request_error", 0,
        "A WebSocket handshake for an endpoint of HTTP/2 brings no key, more than one, or one that is not 16 bytes in base64.",
        "Send one right `Sec-WebSocket-Key` (RFC 6455, section 4.1).";
    PathIllegal: "path_illegal", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The path holds `%00`, a raw backslash or a bad escape, or climbs above the root.",
        "Send a clean path.";
    PathAmbiguous: "path_ambiguous", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The path selects one route as written and another one when read loosely, or can be read loosely in more than one way.",
        "Send the path without `//`, `%2F`, `%5C` and `;`, or set `loose_path = \"allow\"` on the route.";
    ClientDenied: "client_denied", Always(403), "", Client, Never, "http_request_denied", 0,
        "The address of the client is not served here.",
        "Ask from another network, or change `allow.clients` and `deny.clients`.";
    HostDenied: "host_denied", Always(421), "", Client, Never, "http_request_denied", 0,
        "The host of the request is not served here.",
        "Send the host of this service, or change `allow.hosts` and `deny.hosts`.";
    MethodDenied: "method_denied", Always(405), "", Client, Never, "http_request_denied", 0,
        "The route does not let in the method of the request.",
        "Use a method that Allow names, or change `allow.methods`.";
    ContentTypeDenied: "content_type_denied", Always(415), "", Client, Never, "http_request_denied", 0,
        "The route does not let in a body of this media type, or the type is missing or stands twice.",
        "Send one Content-Type that the service takes, or change `allow.content_types`.";
    FieldDenied: "field_denied", Always(403), "", Client, Never, "http_request_denied", 0,
        "The request has a header field that the route does not let in.",
        "Leave the field out, or change `allow.headers`, `deny.headers` or `denied_headers`.";
    RateLimited: "rate_limited", Always(429), "", Client, Never, "http_request_denied", 0,
        "The request is one too many for a rate limit; the log names which.",
        "Wait as long as Retry-After says, or raise `rate` or `burst` of the limit.";
    CorsDenied: "cors_denied", Always(403), "", Client, Never, "http_request_denied", 0,
        "The route does not let pages of this origin send the request.",
        "Add the origin to `cors.origins` of the route, or call the service from one that stands there.";
    CredentialsMissing: "credentials_missing", Always(401), "", Client, Never, "http_request_denied", 0,
        "The route asks for credentials, and the request has none.",
        "Log in as WWW-Authenticate says.";
    CredentialsRefused: "credentials_refused", Always(401), "", Client, Never, "http_request_denied", 0,
        "The credentials of the request are not good: unknown, wrong or malformed.",
        "Check name and password, or the key; look in the files that `auth` of the route names.";
    TokenExpired: "token_expired", Always(401), "", Client, Never, "http_request_denied", 0,
        "The token of the request is no longer good, or not yet.",
        "Get a new token; check the clock of who made it, or raise `leeway` of its issuer.";
    ClaimRefused: "claim_refused", Always(403), "", Client, Never, "http_request_denied", 0,
        "The token of the request is good, and does not say what the route asks for.",
        "Get a token with the claims that `auth.require` of the route names.";
    AuthorizerRefused: "authorizer_refused", Always(403), "", Client, Never, "http_request_denied", 0,
        "The authorizer of the route does not let the request in; status and text are its own.",
        "Do as the answer says, or look in the log of the authorizer.";
    CredentialsThrottled: "credentials_throttled", Always(429), "", Client, Never, "http_request_denied", 0,
        "The client has sent too many wrong passwords.",
        "Wait as long as Retry-After says, and send a password that is right.";
    PlainOnTls: "plain_on_tls", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The plain HTTP request was sent to a TLS port.",
        "Use `https`.";
    Misdirected: "misdirected", Always(421), "H31", Client, Never, "http_request_denied", 0,
        "The host of the request belongs to another certificate or TLS setting than this connection's.",
        "Ask on a new connection that names the host in its TLS handshake.";
    ProxyHeaderMalformed: "proxy_header_malformed", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The connection does not begin with a whole header of the PROXY protocol, though its peer is one of `accept_proxy`.",
        "Let the balancer send the PROXY protocol (version 1 or 2), or take it out of `accept_proxy`.";
    ProxyHeaderTimeout: "proxy_header_timeout", Always(408), "H26", Client, Never, "http_request_error", 0,
        "The header of the PROXY protocol did not arrive in time.",
        "Send the whole header at once, or raise `limits.head_deadline`.";
    ClientHelloMalformed: "client_hello_malformed", Always(400), "H26", Client, Never, "tls_protocol_error", 0,
        "The connection does not begin with a ClientHello of TLS of at most 16 KiB.",
        "Speak TLS on this address, or give the listener another `protocol`.";
    // No route.
    NoRoute: "no_route", Always(404), "", Client, Never, "destination_not_found", 0,
        "No route matches host and path of the request.",
        "Check host and path; `GET /v1/table` shows the routes.";
    MethodNotAllowed: "method_not_allowed", Always(405), "", Client, Never, "http_request_denied", 0,
        "Routes match host and path of the request, and none takes its method.",
        "Use a method that Allow names.";
    ShardKeyMissing: "shard_key_missing", Always(400), "H26", Client, Never, "http_request_error", 0,
        "The request lacks a part of the key that decides which endpoint serves it.",
        "Send what the cluster's `shard.by` names, or give it a `fallback`.";
    // No endpoint could be had.
    NoEndpoints: "no_endpoints", Always(503), "H14", Endpoint, Never, "destination_unavailable", 10,
        "The cluster has no endpoints.",
        "Start the app, or add an endpoint.";
    NoneReady: "none_ready", Always(503), "H10", Endpoint, Never, "destination_unavailable", 5,
        "No endpoint of the cluster is ready.",
        "Look at the reasons of its endpoints: their checks fail, or all are draining.";
    ClusterGone: "cluster_gone", Always(503), "H14", Router, Never, "destination_unavailable", 1,
        "The cluster was removed while the request waited.",
        "Try again; the new table decides.";
    EndpointGone: "endpoint_gone", Always(503), "H14", Router, OtherEndpoint, "destination_unavailable", 1,
        "The endpoint was removed before the request was sent to it.",
        "Try again; another endpoint will serve.";
    QueueFull: "queue_full", Always(503), "H11", Endpoint, Never, "connection_limit_reached", 5,
        "Too many requests already wait for an endpoint of the cluster.",
        "Add endpoints, or raise `queue.max`.";
    QueueTimeout: "queue_timeout", Always(503), "H20", Endpoint, Never, "destination_unavailable", 5,
        "No endpoint of the cluster passed its first check, or had a free slot, in time.",
        "Make the app start or answer faster, add endpoints, or raise `timeout.connect` or `queue.wait`.";
    ShardUnavailable: "shard_unavailable", Always(503), "H10", Endpoint, Never, "destination_unavailable", 5,
        "The endpoint that has the key of the request is not ready, and in a store no other may serve it.",
        "Look at the reasons of its endpoints; replicas serve a key while one of them is ready.";
    ConnectRefused: "connect_refused", Always(503), "H21", Endpoint, OtherEndpoint, "connection_refused", 5,
        "The endpoint refused the connection.",
        "Check that the app listens on the address of the endpoint.";
    ConnectTimeout: "connect_timeout", Always(503), "H19", Endpoint, OtherEndpoint, "connection_timeout", 5,
        "No connection to an endpoint was made in time.",
        "Check that the endpoint is reachable and not overloaded.";
    ConnectFailed: "connect_failed", Always(503), "H19", Endpoint, OtherEndpoint, "destination_ip_unroutable", 5,
        "The endpoint could not be reached.",
        "Check route, firewall and address of the endpoint.";
    SocketsExhausted: "sockets_exhausted", Always(503), "H99", Router, Never, "proxy_internal_error", 5,
        "The router has no descriptor or local port left for a connection.",
        "Raise the descriptor limit of the router, or run more routers.";
    SelfAddress: "self_address", Always(503), "H23", Router, OtherEndpoint, "destination_ip_prohibited", 0,
        "The endpoint is an address of the router itself.",
        "Give the endpoint the address of the app.";
    TlsFailed: "tls_failed", Always(502), "H19", Endpoint, OtherEndpoint, "tls_protocol_error", 0,
        "The TLS handshake with the endpoint failed.",
        "Check that the endpoint speaks TLS 1.2 or 1.3 on this port.";
    TlsCertificateInvalid: "tls_certificate_invalid", Always(502), "H19", Endpoint, OtherEndpoint, "tls_certificate_error", 0,
        "The certificate of the endpoint is not one that the cluster believes.",
        "Look in the log for what is wrong with it; check `tls.ca`, `tls.name`, `tls.san` and its dates.";
    TlsAlert: "tls_alert", Always(502), "H19", Endpoint, OtherEndpoint, "tls_alert_received", 0,
        "The endpoint refused TLS with the router.",
        "Check `tls.identity` of the cluster, and which certificates, versions and names the endpoint takes.";
    Http2Failed: "http2_failed", Always(502), "H17", Endpoint, OtherEndpoint, "http_protocol_error", 0,
        "The endpoint does not speak HTTP/2, which its cluster asks for.",
        "Set `protocol` of the cluster to http1, or let the endpoint speak HTTP/2 on this port.";
    TlsUnavailable: "tls_unavailable", Always(503), "H99", Router, Never, "proxy_configuration_error", 5,
        "The router cannot speak TLS with the cluster: an authority, an identity or a name is missing.",
        "Look for the file and the reason in the log of the router, or run `ekiden check`.";
    Maintenance: "maintenance", Always(503), "H80", Router, Never, "proxy_internal_response", 60,
        "The app is in maintenance.",
        "Wait until it is back; `ekiden maintenance off` ends it.";
    AppLimited: "app_limited", Always(503), "H11", Endpoint, Never, "connection_limit_reached", 1,
        "The app already uses as much of the router as it may; the log names the cap.",
        "Make the app answer faster, add endpoints, or raise `caps`.";
    BreakerOpen: "breaker_open", Always(503), "H11", Endpoint, Never, "connection_limit_reached", 1,
        "The cluster has as much in hand as its breaker allows; the log names the bound.",
        "Make the app answer faster, add endpoints, or raise `breaker`.";
    UpgradeUnsupported: "upgrade_unsupported", Always(502), "H99", Router, Never, "proxy_configuration_error", 0,
        "The client asks for another protocol, and the endpoint speaks HTTP/2, where it takes no extended CONNECT for that.",
        "Set `protocol` of the cluster to http1 or auto, or let the endpoint send SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441).";
    HoldFull: "hold_full", Always(503), "H11", Router, Never, "connection_limit_reached", 5,
        "The app is held, and as many of its requests wait as may.",
        "Wait until it goes on; `ekiden hold` says how many may wait, and ends it.";
    HoldTimeout: "hold_timeout", Always(503), "H20", Router, Never, "connection_timeout", 5,
        "The app is held, and the request has waited as long as it may.",
        "Wait until it goes on; `ekiden hold` says how long requests wait, and ends it.";
    // The endpoint failed the request.
    SendTimeout: "send_timeout", Always(504), "H15", Endpoint, Never, "connection_write_timeout", 0,
        "The endpoint read nothing of the request for too long.",
        "Make the app read the request body, or raise `timeout.idle`.";
    FirstByteTimeout: "first_byte_timeout", Always(504), "H12", Endpoint, Never, "http_response_timeout", 0,
        "The endpoint did not begin a response in time.",
        "Make the app answer faster, or raise `timeout.first_byte`.";
    ClosedWithoutResponse: "closed_without_response", Always(502), "H13", Endpoint, ReplayIfSafe, "connection_terminated", 0,
        "The endpoint closed the connection without a response.",
        "Look for a crash in the log of the app.";
    StatusRetried: "status_retried", Always(503), "H10", Endpoint, Never, "destination_unavailable", 5,
        "The answer of the endpoint was given up for another try, as its route says, and then no endpoint could be had.",
        "Look why the endpoints answer with such a status and are not ready, or take it out of `retry.on`.";
    ResponseMalformed: "response_malformed", Always(502), "H17", Endpoint, Never, "http_protocol_error", 0,
        "The response of the endpoint is not valid HTTP.",
        "Fix the response of the app.";
    ResponseTooLarge: "response_too_large", Always(502), "H25", Endpoint, Never, "http_response_header_section_size", 0,
        "The head of the response is larger than the router takes.",
        "Make the app send fewer or smaller fields (often cookies).";
    UpstreamReset: "upstream_reset", Always(502), "H18", Endpoint, ReplayIfSafe, "connection_terminated", 0,
        "The connection to the endpoint broke.",
        "Look for a crash or restart in the log of the app.";
    UpstreamTruncated: "upstream_truncated", Always(502), "H18", Endpoint, Never, "http_response_incomplete", 0,
        "The endpoint ended the response before its announced end.",
        "Make the app send as many bytes as it announced.";
    UpstreamIdle: "upstream_idle", Always(504), "H15", Endpoint, Never, "connection_read_timeout", 0,
        "The endpoint paused for too long inside its response.",
        "Make the app send without long pauses, or raise `timeout.idle`.";
    TotalTimeout: "total_timeout", Always(504), "H12", Endpoint, Never, "http_response_timeout", 0,
        "The request took longer than the route allows in all.",
        "Make the app answer faster, or raise `timeout.total`.";
    DeadlineExceeded: "deadline_exceeded", Always(504), "H12", Endpoint, Never, "http_response_timeout", 0,
        "The time that the client gave in `grpc-timeout` or `X-Request-Deadline` was over before the request ended.",
        "Make the app answer faster, or give requests more time; it speaks against no endpoint, since clients choose it.";
    // The router failed or gave up the request.
    Drained: "drained", Always(503), "H24", Router, Never, "proxy_internal_response", 1,
        "The router is stopping and the time for open requests is over.",
        "Try again; another router will serve, or raise `drain_timeout`.";
    Overloaded: "overloaded", Always(503), "H22", Router, Never, "connection_limit_reached", 1,
        "There is more work than can be done in time, and this request is among the less important; the log names what is short.",
        "Add endpoints or routers, raise `slots` or the ceilings of `overload`, or give the route a higher `priority`.";
    AuthorizerFailed: "authorizer_failed", Always(503), "", Router, Never, "proxy_internal_response", 1,
        "The authorizer of the route gave no answer, or an error, so the request is not let in.",
        "Look at its cluster, raise `authorizer.timeout`, or set `authorizer.fail`.";
    CredentialsBusy: "credentials_busy", Always(503), "", Router, Never, "proxy_internal_response", 1,
        "Too many passwords already wait to be verified.",
        "Try again; look for clients that guess passwords (`ekiden_entrance_total`), or use cheaper hashes.";
    CredentialsUnavailable: "credentials_unavailable", Always(503), "", Router, Never, "proxy_configuration_error", 5,
        "The router cannot judge credentials: a file of users or keys could never be read, or the app may no longer use it.",
        "Look for the file and the reason in the log of the router.";
    RewriteTooLarge: "rewrite_too_large", Always(500), "H99", Router, Never, "proxy_configuration_error", 0,
        "The edits of the route make the head larger than the router sends.",
        "Shorten the edits of the route.";
    BackendFailed: "backend_failed", Always(502), "H99", Router, Never, "proxy_internal_error", 0,
        "The plug-in that was to answer the request failed.",
        "Look for the error of the plug-in in the log of the router.";
    Panicked: "panicked", Always(500), "H99", Router, Never, "proxy_internal_error", 0,
        "The router met an error of its own.",
        "Report it with the request id; the log of the router holds the details.";
    FaultInjected: "fault_injected", Always(503), "", Router, Never, "proxy_internal_response", 0,
        "The route is told to fail a share of its requests; the status is the one that it names.",
        "Take `faults.abort` of the route away.";
    // The client left.
    ClientGone: "client_gone", Always(499), "H27", Client, Never, "", 0,
        "The client went away before the end of the response.",
        "Nothing is to be done by the app.";
    ClientIdle: "client_idle", ClientSilence, "H28", Client, Never, "", 0,
        "The client neither sent nor read anything for too long.",
        "Send and read without long pauses.";
    ClientTooSlow: "client_too_slow", Always(499), "H28", Client, Never, "", 0,
        "The client read the response more slowly than the listener allows.",
        "Read the response faster, or lower `limits.min_response_rate`.";
    Dropped: "dropped", Always(499), "H27", Client, Never, "", 0,
        "The exchange was dropped before its end.",
        "Nothing is to be done by the app.";
    TunnelIdle: "tunnel_idle", Always(499), "H15", Client, Never, "", 0,
        "Nothing went through the tunnel, in either direction, for too long.",
        "Send a ping from time to time, or raise `timeout.tunnel`.";
    Http2OverBudget: "http2_over_budget", Always(499), "H27", Client, Never, "", 0,
        "The HTTP/2 connection of the client went over a budget of frames and was ended.",
        "Send fewer control frames, resets or empty frames; see `ekiden_http2_calmed_total`.";
}
