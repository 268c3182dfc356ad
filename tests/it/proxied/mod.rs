//! The PROXY protocol on both sides of the router: who is believed, what is refused, what endpoints are told; with HAProxy
//! and curl as others understand it.

mod accept;
mod others;
mod send;
