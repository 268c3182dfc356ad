//! The families of connection limits: connections refused by listener and cause, and what the table of clients could not hold.

use ekiden_core::connection_limits::Refusal;
use ekiden_core::table::Table;

use super::Crowding;
use super::family::Family;

/// The families.
pub(super) fn families(max: usize, table: &Table, crowding: Crowding) -> Vec<Family> {
    let mut refused = Family::counters(
        max,
        "ekiden_connections_refused_total",
        "Client connections reset as they came, by the bound they met.",
    );
    for listener in &table.listeners {
        let name = listener.listener.name.as_str();
        for refusal in Refusal::ALL {
            let labels = [("listener", name), ("cause", refusal.code())];
            refused.count(&labels, listener.cell.refused(refusal));
        }
    }
    let mut crowded = Family::counters(
        max,
        "ekiden_client_table_full_total",
        "New connections whose client found the table of clients full: it took over the place of another, or shared one.",
    );
    crowded.count(&[("result", "taken_over")], crowding.taken_over);
    crowded.count(&[("result", "shared")], crowding.shared);
    vec![refused, crowded]
}
