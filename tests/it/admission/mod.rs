//! What is let in: limits, lists and path rules of listeners, apps and routes, over real sockets.

mod paths;
mod steps;
