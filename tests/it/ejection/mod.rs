//! Endpoints set aside by evidence: who is, who is not, and how they come back. On the real binary, with endpoints that
//! are killed, answer badly or are slow.

mod causes;
mod flapping;
mod life;
mod picker;

use ekiden_tests::{Ekiden, Flapper, Setup, until, until_true, web};
use serde_json::Value;

/// A router before endpoints, with keys of the cluster and of the route.
fn serve(endpoints: &[&Flapper], cluster: &str, route: &str) -> Ekiden {
    Ekiden::start(Setup::new(text(endpoints, cluster, route)).workers(2))
}

fn text(endpoints: &[&Flapper], cluster: &str, route: &str) -> String {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    // These tests are about evidence and what is made of it, not about the picker. The default one sends so little to what fails that
    // each piece of evidence would be waited for: `picker.rs` tests the two together.
    let balance = if cluster.contains("balance") { "" } else { "balance = \"p2c\"\n" };
    web(&addresses, &format!("{balance}{cluster}"), route)
}

/// What the API says of an endpoint.
fn seen(router: &Ekiden, endpoint: &Flapper) -> Value {
    let path = Ekiden::endpoint_path("web", &endpoint.address.to_string());
    router.control("GET", &path, "").json()
}

fn state(router: &Ekiden, endpoint: &Flapper) -> String {
    seen(router, endpoint)["state"].as_str().unwrap_or("").to_owned()
}

fn since(router: &Ekiden, endpoint: &Flapper) -> u64 {
    seen(router, endpoint)["since_unix_ms"].as_u64().unwrap_or(0)
}

fn wait_state(router: &Ekiden, endpoint: &Flapper, wanted: &str) {
    until_true(&format!("{} to be {wanted}", endpoint.address), || state(router, endpoint) == wanted);
}

/// Sends requests until an endpoint is in a state; the statuses that clients saw meanwhile.
fn ask_until(router: &Ekiden, endpoint: &Flapper, wanted: &str) -> Vec<u16> {
    use ekiden_tests::Served;
    let mut statuses = Vec::new();
    let mut client = router.client();
    until(&format!("{} to be {wanted}", endpoint.address), || {
        for _ in 0..5 {
            statuses.push(client.get("a", "/").status);
        }
        (state(router, endpoint) == wanted).then_some(())
    });
    statuses
}

fn ejections(router: &Ekiden) -> f64 {
    router.metric("ekiden_cluster_ejections_total", &[])
}
