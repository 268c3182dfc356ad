//! The integration tests: real sockets, every byte. One binary, so that the harness is linked once.
//!
//! `refusals` and `upstream_faults` hold the engine's strictness, `relay`, `headers`, `retry` and `routing` what it does
//! with good traffic, `seams` the points where later parts plug in; `admission` what is let in; `control`, `swap` and `process` run the real binary,
//! `nginx` a real endpoint, `arch` looks at the manifests.

mod admission;
mod arch;
mod backend;
mod control;
mod headers;
mod nginx;
mod process;
mod refusals;
mod relay;
mod retry;
mod routing;
mod rules;
mod seams;
mod swap;
mod upstream_faults;
