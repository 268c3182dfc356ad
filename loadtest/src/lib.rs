//! Hostile clients, for the load tests and for the integration tests alike: what each attack sends, and how it goes on.
//! It judges nothing, knows no bound of the router, and builds on none of our packages.

pub mod hostile;
