//! The big table of `swap` as a configuration file: 10,000 routes and 100,000 endpoints, of which one cluster
//! carries the traffic. The other endpoints are loopback addresses nobody asks for; nothing probes them.

use std::fmt::Write;
use std::net::SocketAddr;

/// Routes of the table: one by host to the busy cluster, one for every other host to it too, the rest to others.
pub(super) const ROUTES: usize = 10_000;
/// Endpoints of each cluster.
const ENDPOINTS: usize = 10;
/// Host of the traffic.
pub(super) const HOST: &str = "big.test";

/// The file, with `routes` routes (2..=10,000) and ten times as many endpoints.
pub(super) fn text(listen: SocketAddr, origin: SocketAddr, routes: usize) -> String {
    let mut text =
        format!("[access_log]\nto = \"off\"\n\n[listener.edge]\naddress = \"{listen}\"\n\n[cluster.big]\n");
    let mut others = String::new();
    let endpoints: Vec<String> =
        (0..2 * ENDPOINTS).map(|id| format!("{{ id = \"big-{id}\", address = \"{origin}\" }}")).collect();
    let _ = writeln!(text, "endpoints = [{}]", endpoints.join(", "));
    for number in 0..routes.saturating_sub(2) {
        let (high, low) = (number / 250 + 1, number % 250 + 1);
        let endpoints: Vec<String> =
            (0..ENDPOINTS).map(|port| format!("\"127.1.{high}.{low}:{}\"", 9000 + port)).collect();
        let _ = writeln!(text, "\n[cluster.c{number}]\nendpoints = [{}]", endpoints.join(", "));
        let _ = writeln!(others, "\n[[route]]\nhost = \"h{number}.test\"\ncluster = \"c{number}\"");
    }
    let _ =
        writeln!(text, "\n[[route]]\nhost = \"{HOST}\"\ncluster = \"big\"\n\n[[route]]\ncluster = \"big\"");
    text + &others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_promised_size() {
        let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let text = text(at, at, ROUTES);
        assert_eq!(text.matches("[[route]]").count(), 10_000);
        assert_eq!(text.matches("\"127.").count() - 1, 100_000);
    }
}
