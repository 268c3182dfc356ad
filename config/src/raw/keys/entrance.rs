//! Keys of who may enter, and how often. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{DAY, FailWord, HOUR, NAME, NETS, OverWord, RATE};
use crate::model::{LimitFields, MissingKey};
use crate::raw::declare::tables;
use crate::raw::quantity::{Bytes, RawRate};
use crate::raw::read::{CountOr, Map, Off, Spanned, TextOr, Word};

tables! {
    /// What is let in; a key that is left out, or `off`, lets in everything. What a route matched is judged, so that a
    /// refusal has its own code instead of a 404.
    RawAllow as "allow" {
        /// Client addresses and networks (CIDR); others get 403. The client is found as for `X-Forwarded-For`, see `trust`.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; others, and requests without Host, get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
        /// Methods, upper case; others get 405 with `Allow`. GET brings HEAD with it.
        methods: Off<Vec<Spanned<String>>> = "off" in 1, 64;
        /// Media types of request bodies, `type/subtype` or `type/*`; others, and bodies without a type, get 415.
        /// Parameters and case do not matter.
        content_types: Off<Vec<Spanned<String>>> = "off" in 1, 64;
        /// Request fields that are passed on, by name or `prefix*`; see `denied_headers` for the others.
        headers: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// What is kept out; a key that is left out, or `off`, keeps out nothing.
    RawDeny as "deny" {
        /// Client addresses and networks (CIDR); they get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; they get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
        /// Request fields that are not passed on, by name or `prefix*`, with `-` or `_`; see `denied_headers`.
        headers: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// A rate of requests, or requests at a time, counted over all workers. What one limit refuses takes nothing from the others.
    RawLimit as "a limit" {
        /// Name in logs, metrics and `RateLimit` fields. Under it the accounts go on from table to table, while rate, burst, key,
        /// groups and keys stay as they are.
        name: Spanned<String> = "`listener-limit-N`, `app-limit-N` or `route-limit-N` by its position, from 1" in 1, NAME;
        /// Requests in a time: `"100/s"`, `"30/m"`, `"5/h"`. One of `rate` and `concurrency` is needed.
        rate: RawRate = "none" in 1, RATE;
        /// Requests at a time, each from its head to the end of its response.
        concurrency: Spanned<u64> = "none" in 1, RATE;
        /// Requests that may come at once.
        burst: Spanned<u64> = "the number of the rate" in 1, RATE;
        /// What requests are told apart by: `client` (the address, in IPv6 its /64), `group` (of `groups`), `header:NAME`, `cookie:NAME`,
        /// `query:NAME` or `query`, `path:N` (the segment, from 1) or `path`, `host`, `api_key` (the id of the key that `auth` knows; on apps
        /// and routes), `client_cert:PART` (`subject`, `uri`, `dns` or `fingerprint`, the first one of the client's certificate), or
        /// several in braces: `"{client}:{header:x-user}"`.
        key: Spanned<String> = "none: all requests share one account" in 1, 512;
        /// What happens to a request that lacks a part of the key: `share` (those without it share an account) or `skip` (it is not counted).
        missing: Word<MissingKey> = "\"share\"";
        /// Groups of client addresses and networks (CIDR) by name, for the key `group`; the most specific network decides.
        groups: Map<Vec<Spanned<String>>> = "none" in 0, 256;
        /// Clients that are not counted, addresses and networks (CIDR).
        except: Vec<Spanned<String>> = "nobody" in 0, NETS;
        /// What a request takes; at most the burst, and with 0 it is not counted.
        cost: CountOr<RawCost> = "1" in 0, RATE;
        /// Count and log what would be refused, and refuse nothing.
        shadow: bool = "false";
        /// Which responses carry `RateLimit` and `RateLimit-Policy`: `refused` ones, `always`, or `never`. A 429 has `Retry-After` in any case.
        headers: Word<LimitFields> = "\"refused\"";
        /// Keys told apart at the same time, rounded up to a power of two, 16 bytes each. Beyond it, new keys join the account that is used least.
        keys: u64 = "16384" in 1, 1 << 24;
        /// Count together with the other routers that name this store: a name of `[store.NAME]`. Keys are at most 262144 then.
        shared: Spanned<String> = "none: each router counts alone" in 1, NAME;
    }

    /// What a request takes from a limit, in its long form.
    RawCost as "a cost" {
        /// By method, upper case.
        methods: Map<Spanned<u64>> = "none" in 0, 64;
        /// A request header that says it, as a whole number; wins over `methods`. Clients can write it: the bounds hold.
        header: Spanned<String> = "none" in 1, NAME;
        /// A response header of the endpoint that says what the request cost in the end, as a whole number: what that is more than was
        /// taken is taken afterwards, up to `most`, whatever is left. It is not passed on.
        response: Spanned<String> = "none" in 1, NAME;
        /// Least that the header may say; less is taken for this.
        least: Spanned<u64> = "1" in 0, RATE;
        /// Most that a header may say; more is taken for this. Needed with `header` and `response`.
        most: Spanned<u64> = "none" in 1, RATE;
        /// Where neither says it.
        otherwise: Spanned<u64> = "1" in 0, RATE;
    }

    /// Cross-origin resource sharing, as the Fetch standard has it. Fields of CORS that the endpoint sends are replaced. A preflight is
    /// answered by the route that would serve the method it asks for.
    RawCors as "cors" {
        /// Origins, `https://example.com` with a port where it is not the default one, or `https://*.example.com` for all subdomains (the
        /// host itself is none of them); or `*` alone for every origin, without `credentials`.
        origins: Vec<Spanned<String>> = "required" in 1, 1000;
        /// Methods allowed beside GET, HEAD and POST, which need no permission; or `*` alone.
        methods: Vec<Spanned<String>> = "none" in 0, 64;
        /// Request fields allowed beside those that need no permission; or `*` alone, which without `credentials` does not cover
        /// `Authorization`.
        headers: Vec<Spanned<String>> = "none" in 0, 256;
        /// Response fields that pages may read beside those that need no permission; or `*` alone, without `credentials`.
        expose: Vec<Spanned<String>> = "none" in 0, 256;
        /// Pages may send cookies and other credentials.
        credentials: bool = "false";
        /// How long a browser may keep the answer to a preflight.
        max_age: Duration = "5 s, by the browser's own rule" in 0, DAY;
    }

    /// Credentials that let a request in: at least one kind, and the kind that a request shows decides. Limits count it before.
    RawAuth as "auth" {
        /// Names and passwords (Basic, RFC 7617): a name of `[users.NAME]`.
        users: Spanned<String> = "none" in 1, NAME;
        /// Keys of programs: a name of `[api_keys.NAME]`.
        api_keys: Spanned<String> = "none" in 1, NAME;
        /// Signed tokens (`Authorization: Bearer`): a name of `[jwt.NAME]`.
        jwt: Spanned<String> = "none" in 1, NAME;
        /// Request fields that tell the endpoint what the token says: `{ X-User = "sub", X-Role = "realm.role" }`. A claim is a name, or
        /// names with `.` between them; texts, numbers, flags and lists of them are told. A client's own field is taken away.
        claims: Map<Spanned<String>> = "none" in 0, 32;
        /// Claims that must have, or hold, a value or one of a list; 403 otherwise.
        require: Map<TextOr<Vec<Spanned<String>>>> = "none" in 0, 32;
        /// Request field that holds the key of a program.
        api_key_header: Spanned<String> = "\"x-api-key\"" in 1, NAME;
        /// Query parameter that is looked at when the field is not there. Its value becomes asterisks before anything is logged or sent
        /// on by this route; a field is safer, since others log queries.
        api_key_query: Spanned<String> = "none" in 1, NAME;
        /// What clients are told that they are to log in to.
        realm: Spanned<String> = "\"restricted\"" in 1, 128;
        /// Request field that tells the endpoint who it is: the user, the id of the key, or the `sub` of the token. A client's own is taken away.
        id_header: Spanned<String> = "none" in 1, NAME;
        /// Take the credentials away before the request is sent on.
        hide_credentials: bool = "false";
    }

    /// A service that is asked by a GET without a body, or with `body` by a POST: 2xx lets the request in, any other answer below 500 is given to the client.
    /// It gets the fields of the request, those that endpoints get of the client, and `X-Forwarded-Method` and `X-Forwarded-Uri`.
    /// With `grpc` it is asked by a call instead.
    RawAuthorizer as "authorizer" {
        /// Who is asked: a cluster of the same app.
        cluster: Spanned<String> = "required" in 1, NAME;
        /// Path and query of the question. Not with `grpc`.
        path: Spanned<String> = "\"/\"" in 1, 4096;
        /// Ask by the call `envoy.service.auth.v3.Authorization/Check` (Envoy's `ext_authz`). The cluster must speak HTTP/2.
        grpc: Spanned<bool> = "false";
        /// Show the service the body of requests that have one.
        body: RawAuthorizerBody = "none";
        /// Longest wait for an answer, connecting included.
        timeout: Duration = "\"1s\"" in 1, HOUR;
        /// What happens when there is no answer, or one of 5xx: `closed` refuses the request (503), `open` lets it in.
        fail: Word<FailWord> = "\"closed\"";
        /// Request fields that go along.
        headers: Vec<Spanned<String>> = "all that go to endpoints" in 0, 256;
        /// Fields of an answer of 2xx that go to the endpoint with the request. A client's own are taken away, also where the answer
        /// lacks them.
        returns: Vec<Spanned<String>> = "none" in 0, 64;
    }

    /// What an authorizer sees of a body. It is read before the question is asked, and not from tunnels. The question is a POST then, and
    /// `X-Envoy-Auth-Partial-Body` says whether there is more; in a call the body stands in `body` as text and in `raw_body` as it is.
    RawAuthorizerBody as "authorizer.body" {
        /// Bytes at most.
        max: Bytes = "\"8KiB\"" in 1, 32 << 10;
        /// What becomes of a request with a longer one, or one in so small pieces that they fill 64 KiB: `refuse` answers 413, `partial`
        /// shows the beginning.
        over: Word<OverWord> = "\"refuse\"";
    }
}
