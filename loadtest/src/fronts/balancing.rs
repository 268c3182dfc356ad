//! Proxies before many endpoints, for `balance`: each with one of its pickers, told to notice a dead endpoint and to try a request
//! elsewhere when its own went down, and otherwise with its defaults. HAProxy sets a server aside by what requests meet only when told
//! to, and then as we do: without it `leastconn` sends everything to the one that is down, which has the fewest connections.

use super::{Front, Kind};
use crate::failure::Fallible;
use std::net::SocketAddr;
use std::path::Path;

/// A proxy and how it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picker {
    /// The proxy.
    pub(crate) kind: Kind,
    /// Its word for it.
    pub(crate) words: &'static str,
}

impl Picker {
    /// All of them, ours first: the best three of `simulate`.
    pub(crate) const ALL: [Self; 7] = [
        Self { kind: Kind::Ekiden, words: "prequal" },
        Self { kind: Kind::Ekiden, words: "peak_ewma" },
        Self { kind: Kind::Ekiden, words: "p2c" },
        Self { kind: Kind::Haproxy, words: "leastconn" },
        Self { kind: Kind::Haproxy, words: "random(2)" },
        Self { kind: Kind::Nginx, words: "least_conn" },
        Self { kind: Kind::Envoy, words: "LEAST_REQUEST" },
    ];

    /// Name in messages.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.words)
    }
}

/// Starts a proxy before these endpoints and waits until it answers, with its files in a directory of its own in `dir`.
pub(crate) fn start_balancing(
    picker: Picker,
    round: usize,
    endpoints: &[SocketAddr],
    dir: &Path,
) -> Fallible<Front> {
    let Picker { kind, words } = picker;
    let plain: String = words.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = format!("balance-{}-{plain}-{round}", kind.name());
    super::start_with_text(kind, name, dir, |address, dir| match kind {
        Kind::Ekiden => Some(ekiden(address, words, endpoints)),
        Kind::Haproxy => Some(haproxy(address, words, endpoints)),
        Kind::Nginx => Some(nginx(address, words, endpoints, dir)),
        Kind::Envoy => Some(envoy(address, words, endpoints)),
        Kind::EkidenLogged | Kind::EkidenLimited | Kind::EkidenH2c | Kind::Null | Kind::Pingora => None,
    })
}

fn each(endpoints: &[SocketAddr], write: impl Fn(usize, &SocketAddr) -> String) -> String {
    endpoints.iter().enumerate().map(|(number, at)| write(number, at)).collect()
}

fn ekiden(address: SocketAddr, balance: &str, endpoints: &[SocketAddr]) -> String {
    let list = each(endpoints, |_, at| format!("\"{at}\", "));
    format!(
        "[access_log]\nto = \"off\"\n\n[listener.edge]\naddress = \"{address}\"\n\n[cluster.web]\nendpoints = [{list}]\nbalance = \"{balance}\"\n\n\
         [[route]]\ncluster = \"web\"\nretry = {{ on = [\"connect\", \"reset\"] }}\n"
    )
}

fn haproxy(address: SocketAddr, balance: &str, endpoints: &[SocketAddr]) -> String {
    let servers = each(endpoints, |number, at| format!("  server e{number} {at}\n"));
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option redispatch 1
  retry-on conn-failure empty-response
  default-server check downinter 250ms rise 1 observe layer4 error-limit 5 on-error mark-down
  default_backend web
frontend edge
  bind {address}
backend web
  balance {balance}
{servers}"
    )
}

fn nginx(address: SocketAddr, balance: &str, endpoints: &[SocketAddr], dir: &Path) -> String {
    let dir = dir.display();
    let servers = each(endpoints, |_, at| format!("    server {at};\n"));
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{ worker_connections 4000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  upstream web {{
    zone web 64k;
    {balance};
{servers}    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://web;
      proxy_next_upstream error timeout;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

fn envoy(address: SocketAddr, balance: &str, endpoints: &[SocketAddr]) -> String {
    let socket = |at: &SocketAddr| {
        format!("{{ socket_address: {{ address: \"{}\", port_value: {} }} }}", at.ip(), at.port())
    };
    let list = each(endpoints, |_, at| format!("        - endpoint: {{ address: {} }}\n", socket(at)));
    let address = socket(&address);
    format!(
        "static_resources:
  listeners:
  - name: edge
    address: {address}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: \"/\" }}
                route: {{ cluster: web, retry_policy: {{ retry_on: \"connect-failure,reset\" }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: web
    type: STATIC
    lb_policy: {balance}
    connect_timeout: 5s
    outlier_detection: {{}}
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
{list}"
    )
}
