//! Keys of a listener: addresses, TLS of clients, bounds of connections. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{DAY, HOUR, LIMITS, NETS, RawLimit};
use crate::model::{ClientAuthMode, ListenerProtocol, Role, TlsVersion, UnknownName};
use crate::raw::declare::tables;
use crate::raw::quantity::{Bytes, RawRate};
use crate::raw::read::{Off, OneOrMany, PortOrFlag, Spanned, Word};

tables! {
    /// A bound address with its protocol rules. Changes apply without a restart.
    RawListener as "[listener.NAME]" {
        /// Where to bind: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`.
        address: Spanned<String> = "required" in 1, 256;
        /// What it is for: `edge` faces people, `inbound` and `outbound` stand beside an app in its pod.
        role: Spanned<Word<Role>> = "\"edge\"";
        /// What its connections carry: `http`; `tcp`, any bytes; or `tls-passthrough`, TLS that the endpoint ends, routed by the host of
        /// the ClientHello. Routes apply to the last two only when they name them, and have no conditions but `host` with
        /// `tls-passthrough`.
        protocol: Spanned<Word<ListenerProtocol>> = "\"http\"";
        /// Addresses and networks (CIDR) of proxies whose forwarding fields are believed.
        trust: Vec<Spanned<String>> = "nobody" in 0, 1000;
        /// Bounds on what a client may send.
        limits: RawLimits = "see the keys";
        /// Also take HTTP/2 in clear text from clients that begin with it (prior knowledge), on the same port as HTTP/1.
        h2c: bool = "false";
        /// Accept `_` in field names; otherwise such fields are dropped.
        allow_underscore: bool = "false";
        /// Read `//` in paths as `/`, for matching and forwarding.
        merge_slashes: bool = "false";
        /// Also send `Forwarded` (RFC 7239) upstream.
        forwarded: bool = "false";
        /// Name under which `Via` is added in both directions.
        via: Spanned<String> = "no `Via`" in 1, 64;
        /// Open connections of one client address (IPv6: one /64) at most, over all workers; more are reset. Unix peers and
        /// addresses inside `trust` are exempt, and loopback too unless a number is written.
        max_connections_per_client: Off<u64> = "half of what the process takes" in 1, 10_000_000;
        /// New connections of one client address (IPv6: one /64) at most, over all workers; more are reset. Unix peers and
        /// addresses inside `trust` are exempt.
        connection_rate_per_client: Off<RawRate> = "\"off\"" in 1, 1_000_000;
        /// New connections of one client address that may come at once.
        connection_burst_per_client: Spanned<u64> = "the number of the rate" in 1, 1_000_000;
        /// New connections of all clients together at most, over all workers; more are reset. Unix peers and addresses inside
        /// `trust` are exempt.
        connection_rate: Off<RawRate> = "\"off\"" in 1, 1_000_000;
        /// New connections of all clients together that may come at once.
        connection_burst: Spanned<u64> = "the number of the rate" in 1, 1_000_000;
        /// Clients and hosts it serves, whatever the route.
        allow: RawListenerAllow = "everything";
        /// Clients and hosts it does not serve, whatever the route.
        deny: RawListenerDeny = "nothing";
        /// Rates of requests, whatever the route, also of those that match none: all must pass. 429 beyond.
        limit: Vec<RawLimit> = "none" in 1, LIMITS;
        /// Serve TLS with these certificates: one table or a list of them. The first certificate is the default: it answers
        /// clients that name no host. Files are watched.
        tls: OneOrMany<RawCertificate> = "plain" in 1, 10_000;
        /// What a client gets that asks for a name no certificate covers: `default` is the default certificate, `refuse` the
        /// alert `unrecognized_name`.
        unknown_name: Spanned<Word<UnknownName>> = "\"default\"";
        /// The oldest version of TLS spoken: `1.2` or `1.3`.
        min_tls_version: Spanned<Word<TlsVersion>> = "\"1.2\"";
        /// File with the keys of TLS session tickets, for routers that resume each other's sessions: one key a line, each 32
        /// bytes in base64 or hexadecimal (`openssl rand -base64 32`). The first one makes tickets, all open them. Relative to
        /// this file; watched.
        ticket_keys: Spanned<String> = "made by the process, a new one every 6 hours" in 1, 4096;
        /// Certificates of clients. Only with `tls`.
        client_auth: RawClientAuth = "not asked for";
        /// TLS handshakes in progress on one worker at most, those of all its listeners; more connections are reset.
        max_handshakes: Spanned<u64> = "4096" in 1, 1_000_000;
        /// Send `Strict-Transport-Security` with this value on every response that has none, such as `"max-age=31536000; includeSubDomains"`. Only with `tls`.
        hsts: Spanned<String> = "none" in 1, 256;
        /// Answer every request with 308 to `https` on this port; `true` means 443. Paths below `/.well-known/acme-challenge/`
        /// go to the routes. Not with `tls`.
        redirect_https: Spanned<PortOrFlag> = "false" in 1, 65_535;
        /// Addresses and networks (CIDR) that begin each connection with a header of the PROXY protocol, version 1 or 2, or the
        /// word `unix` for peers of a unix socket. The client that it names counts everywhere: for `allow`, limits, `trust`,
        /// `X-Forwarded-For` and the log. From them a connection without a header is refused; all others are clients themselves.
        accept_proxy: Vec<Spanned<String>> = "nobody" in 1, NETS;
    }

    /// A certificate of a listener: either `cert` and `key`, or `dir`. Paths are relative to this file.
    RawCertificate as "[listener.NAME.tls]" {
        /// PEM file with the certificate, followed by what links it to its authority.
        cert: Spanned<String> = "none" in 1, 4096;
        /// PEM file with the private key of `cert`.
        key: Spanned<String> = "none" in 1, 4096;
        /// Directory with `NAME.pem` or `NAME.crt` and `NAME.key` of each certificate. `default` comes first, the others by name.
        dir: Spanned<String> = "none" in 1, 4096;
    }

    /// How clients of a TLS listener prove who they are. Paths are relative to this file; the files are watched.
    RawClientAuth as "[listener.NAME.client_auth]" {
        /// `none`: not asked. `optional`: a certificate that is shown is verified. `required`: no handshake without one. Endpoints
        /// are told in `Client-Cert` and `X-Forwarded-Client-Cert`.
        mode: Word<ClientAuthMode> = "required" in 1, 16;
        /// PEM file with the authorities that are believed. Not with the mode `none`.
        ca: Spanned<String> = "none" in 1, 4096;
        /// PEM file with the revocation lists, one for each authority in the chains. Any change ends resumption.
        crl: Spanned<String> = "no revocation" in 1, 4096;
    }

    /// Bounds on one client's requests.
    RawLimits as "[listener.NAME.limits]" {
        /// Request line without its line end, in bytes; 414 beyond.
        request_line: Bytes = "\"8KiB\"" in 64, 1 << 20;
        /// One field line without its line end, in bytes; 431 beyond.
        field: Bytes = "\"16KiB\"" in 64, 1 << 20;
        /// The whole head, in bytes; 431 beyond.
        head: Bytes = "\"64KiB\"" in 256, 16 << 20;
        /// Number of fields; 431 beyond.
        fields: u64 = "100" in 1, 1000;
        /// From the first byte of a head to its last.
        head_deadline: Duration = "\"10s\"" in 10, HOUR;
        /// From accept to the end of the TLS handshake.
        handshake_deadline: Duration = "\"10s\"" in 10, HOUR;
        /// Idle time between the requests of a connection.
        keepalive_idle: Duration = "\"60s\"" in 10, DAY;
        /// Longest silence inside a request body.
        body_idle: Duration = "\"55s\"" in 10, DAY;
        /// Largest request body, in bytes; 413 beyond.
        body: Off<Bytes> = "\"off\"" in 0, 1 << 40;
        /// Slowest request body, in bytes per second of waiting for the client, averaged over `body_idle`; 408 below.
        min_body_rate: Off<Bytes> = "\"100B\"" in 1, 1 << 30;
        /// Slowest reader of a response, in bytes per second of waiting for the client, averaged over the idle timeout of the
        /// route; the connection is reset below.
        min_response_rate: Off<Bytes> = "\"100B\"" in 1, 1 << 30;
    }

    /// What a listener serves; judged before a route is looked for.
    RawListenerAllow as "[listener.NAME.allow]" {
        /// Client addresses and networks (CIDR); others get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; others, and requests without Host, get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// What a listener does not serve; judged before a route is looked for.
    RawListenerDeny as "[listener.NAME.deny]" {
        /// Client addresses and networks (CIDR); they get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; they get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }
}
