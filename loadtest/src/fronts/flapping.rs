//! Proxies before three endpoints, for `flap`: what each needs to notice a dead endpoint, with its own defaults. HAProxy and
//! nginx retry by themselves; HAProxy gets `check`, Envoy `outlier_detection` and a retry policy, without which they would
//! keep a dead endpoint for ever or fail every request that meets it. Where the fault is a status, each is told to retry for it.

use super::{Front, Kind};
use crate::failure::Fallible;
use crate::flap::Fault;
use std::net::SocketAddr;
use std::path::Path;

/// Starts a proxy before these endpoints and waits until it answers, with its files in a directory of its own in `dir`.
pub(crate) fn start_before(
    kind: Kind,
    fault: Fault,
    endpoints: &[SocketAddr; 3],
    dir: &Path,
) -> Fallible<Front> {
    let name = format!("flap-{}-{}", kind.name(), fault.word());
    super::start_with_text(kind, name, dir, |address, dir| match kind {
        Kind::Ekiden => Some(ekiden(address, fault, endpoints)),
        Kind::Haproxy => Some(haproxy(address, fault, endpoints)),
        Kind::Nginx => Some(nginx(address, fault, endpoints, dir)),
        Kind::Envoy => Some(envoy(address, fault, endpoints)),
        Kind::EkidenLogged | Kind::EkidenLimited | Kind::EkidenH2c | Kind::Null | Kind::Pingora => None,
    })
}

fn each(endpoints: &[SocketAddr; 3], write: impl Fn(usize, &SocketAddr) -> String) -> String {
    endpoints.iter().enumerate().map(|(number, at)| write(number, at)).collect()
}

fn ekiden(address: SocketAddr, fault: Fault, endpoints: &[SocketAddr; 3]) -> String {
    let list = each(endpoints, |_, at| format!("\"{at}\", "));
    let retry = match fault {
        Fault::Killed => "",
        Fault::Busy => "retry = { on = [\"connect\", \"reset\", 503] }\n",
    };
    format!(
        "[access_log]\nto = \"off\"\n\n[listener.edge]\naddress = \"{address}\"\n\n[cluster.web]\nendpoints = [{list}]\n\n\
         [[route]]\ncluster = \"web\"\n{retry}"
    )
}

fn haproxy(address: SocketAddr, fault: Fault, endpoints: &[SocketAddr; 3]) -> String {
    let servers = each(endpoints, |number, at| format!("  server e{number} {at} check\n"));
    let redispatch = match fault {
        Fault::Killed => "option redispatch",
        Fault::Busy => "option redispatch 1\n  retry-on conn-failure empty-response 503",
    };
    format!(
        "global
  nbthread 1
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {redispatch}
  default_backend web
frontend edge
  bind {address}
backend web
{servers}"
    )
}

fn nginx(address: SocketAddr, fault: Fault, endpoints: &[SocketAddr; 3], dir: &Path) -> String {
    let dir = dir.display();
    let servers = each(endpoints, |_, at| format!("    server {at};\n"));
    let next = match fault {
        Fault::Killed => "error timeout",
        Fault::Busy => "error timeout http_503",
    };
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 1000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  upstream web {{
{servers}    keepalive 32;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://web;
      proxy_next_upstream {next};
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

fn envoy(address: SocketAddr, fault: Fault, endpoints: &[SocketAddr; 3]) -> String {
    let socket = |at: &SocketAddr| {
        format!("{{ socket_address: {{ address: \"{}\", port_value: {} }} }}", at.ip(), at.port())
    };
    let list = each(endpoints, |_, at| format!("        - endpoint: {{ address: {} }}\n", socket(at)));
    let address = socket(&address);
    let on = match fault {
        Fault::Killed => "connect-failure,reset",
        Fault::Busy => "connect-failure,reset,gateway-error",
    };
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
                route: {{ cluster: web, retry_policy: {{ retry_on: \"{on}\" }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: web
    type: STATIC
    connect_timeout: 5s
    outlier_detection: {{}}
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
{list}"
    )
}
