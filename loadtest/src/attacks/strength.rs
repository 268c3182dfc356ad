//! How strong each attack is: connections at a time, and turns a second of all of them together.
//! Chosen so that the generator stays well below its core, which it shares with normal traffic, and stated in the report.

use ekiden_loadtest::hostile::{Attack, Class};

/// The strength of one attack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Strength {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Turns a second: a piece sent, a piece read, or a connection renewed.
    pub(super) rate: f64,
}

/// What an attack runs at; a few connections when it is only to be shown that it runs.
pub(super) fn of(attack: &Attack, smoke: bool) -> Strength {
    let (connections, rate) = match attack.class {
        // Each turn is a connection: what one core opens beside the rest.
        _ if attack.renews => (50, 2_000.0),
        // Each connection holds a flood of the origin.
        Class::Responses => (100, 2_000.0),
        Class::Connections if attack.reads == 0 => (100, 1_000.0),
        // Twenty-five frames a turn, most of them.
        Class::Frames => (100, 800.0),
        Class::Heads | Class::Bodies | Class::Connections => (1_000, 5_000.0),
    };
    if smoke { Strength { connections: 10, rate: 200.0 } } else { Strength { connections, rate } }
}
