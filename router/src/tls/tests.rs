//! Tests of TLS without sockets: certificates, the store, tickets, the hub over real files.
