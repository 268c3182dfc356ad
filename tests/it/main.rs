//! The integration tests: real sockets, every byte. One binary, so that the harness is linked once.
//!
//! `refusals` and `upstream_faults` hold the engine's strictness, `relay`, `headers`, `retry` and `routing` what it does
//! with good traffic, `admission` what is let in, `auth` what must be shown, `limits` at which rates, `ejection` what is set aside, `balance` who is asked by latency and load, `spread` how zones, priorities and subsets share out requests, `shard` who serves which key, `affinity` who a client comes back to, `explain` what the router says of a request before it comes, `faults` what it spoils when it is told to, `mirror` what it copies, `http2` all that HTTP/2
//! adds, `seams` the points where later parts plug in; `control`, `swap` and
//! `process` run the real binary, `procfile` the programs that it starts itself, `nginx` a real endpoint, `smuggling` many of them for hostile requests, `defence` what
//! floods and slow clients meet, `overload` who is served when not all can be, `tls` certificates, handshakes and what goes
//! over them, `endpoint_tls` and `endpoint_http2` the same towards endpoints, `tunnel` what protocols are switched to,
//! `grpc` calls of gRPC, `proxied` the PROXY protocol, `raw` what is no HTTP, `fleet` control and routers as processes of their own, `codes` walks every code, `arch` looks at the manifests.

mod admission;
mod affinity;
mod arch;
mod auth;
mod backend;
mod balance;
mod codes;
mod control;
mod defence;
mod ejection;
mod endpoint_http2;
mod endpoint_tls;
mod explain;
mod faults;
mod fleet;
mod grpc;
mod headers;
mod http2;
mod limits;
mod mirror;
mod nginx;
mod overload;
mod process;
mod procfile;
mod proxied;
mod raw;
mod refusals;
mod relay;
mod retry;
mod routing;
mod rules;
mod seams;
mod shard;
mod smuggling;
mod spread;
mod swap;
mod tls;
mod tunnel;
mod upstream_faults;
