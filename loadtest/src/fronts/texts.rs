//! Configuration texts of the proxies: one worker, keep-alive on both sides, no logs, limits out of the way.
//! They are what a careful person would write for this job, with nothing tuned against anybody.

use super::{Origins, Secure};
use std::net::SocketAddr;
use std::path::Path;

/// A rate limit that counts each client and never refuses.
pub(super) const LIMIT: &str = "limit = [{ rate = \"1000000/s\", burst = 1000000, key = \"client\" }]\n";

/// Ekiden's smallest file, with the access log to `log` or off, and room for as many connections as the peers get. `route`
/// holds further keys of its route.
pub(super) fn ekiden(
    (address, keys): (SocketAddr, &str),
    secure: Option<&Secure>,
    origin: Origins,
    log: Option<&Path>,
    route: &str,
) -> String {
    let secure = secure.map_or_else(String::new, |secure| {
        let (at, pem) = (secure.address, secure.pem.display());
        format!("[listener.secure]\naddress = \"{at}\"\ntls = {{ cert = \"{pem}\", key = \"{pem}\" }}\n\n")
    });
    let http2 = origin.http2.map_or_else(String::new, |at| {
        let route = |path: &str| format!("\n[[route]]\npath = \"{path}\"\ncluster = \"streams\"\n");
        let cluster = format!("\n[cluster.streams]\nendpoints = [\"{at}\"]\nprotocol = \"h2\"\n");
        cluster + &route("/h2") + &route("/bench.Echo")
    });
    let floods = origin.floods.map_or_else(String::new, |at| {
        let cluster = format!("\n[cluster.floods]\nendpoints = [\"{at}\"]\n");
        cluster + "\n[[route]]\npath = \"/flood\"\ncluster = \"floods\"\n"
    });
    let plain = origin.plain;
    let to = log.map_or_else(|| "off".to_owned(), |path| path.display().to_string());
    format!(
        "max_connections = 19000\n\n[access_log]\nto = \"{to}\"\n\n[listener.edge]\naddress = \"{address}\"\n{keys}\n{secure}\
         [cluster.web]\nendpoints = [\"{plain}\"]\n\n[[route]]\ncluster = \"web\"\n{route}{http2}{floods}"
    )
}

/// HAProxy. `no strict-limits`: it would ask for twice its connections in descriptors and refuse to start here.
pub(super) fn haproxy(address: SocketAddr, secure: Option<&Secure>, origin: Origins) -> String {
    let secure = secure.map_or_else(String::new, |secure| {
        format!("  bind {} ssl crt {} alpn h2,http/1.1 backlog 4096\n", secure.address, secure.pem.display())
    });
    let plain = origin.plain;
    let (choice, streams) = origin.http2.map_or_else(Default::default, |at| {
        let choice = "  use_backend streams if { path_beg /h2 /bench.Echo/ }\n".to_owned();
        (choice, format!("backend streams\n  server streams {at} proto h2\n"))
    });
    format!(
        "global
  nbthread 1
  maxconn 19000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  http-reuse always
  default_backend origin
frontend edge
  bind {address} backlog 4096
{secure}  maxconn 19000
{choice}backend origin
  server origin {plain}
{streams}"
    )
}

/// nginx. Responses never go to temporary files, else the 1 MiB case would measure a disk.
pub(super) fn nginx(address: SocketAddr, secure: Option<&Secure>, origin: Origins, dir: &Path) -> String {
    let dir = dir.display();
    let secure = secure.map_or_else(String::new, |secure| {
        let (at, pem) = (secure.address, secure.pem.display());
        format!(
            "    listen {at} ssl http2 backlog=4096;\n    ssl_certificate {pem};\n    ssl_certificate_key {pem};\n"
        )
    });
    let plain = origin.plain;
    let calls = origin.http2.map_or_else(String::new, |at| {
        format!(
            "  upstream streams {{
    server {at};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
"
        )
    });
    let call =
        if calls.is_empty() { "" } else { "    location /bench.Echo/ { grpc_pass grpc://streams; }\n" };
    format!(
        "daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  upstream origin {{
    server {plain};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
{calls}  server {{
    listen {address} backlog=4096;
{secure}{call}    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"
    )
}

/// Envoy: static, without request ids, statistics of the router and upgrades it would not need.
pub(super) fn envoy(address: SocketAddr, secure: Option<&Secure>, origin: Origins) -> String {
    let socket = |at: SocketAddr| {
        format!("{{ socket_address: {{ address: \"{}\", port_value: {} }} }}", at.ip(), at.port())
    };
    let routes = if origin.http2.is_some() { ENVOY_STREAMS } else { "" };
    let mut listeners = envoy_listener("edge", &socket(address), routes, "");
    if let Some(secure) = secure {
        let pem = secure.pem.display();
        let transport = format!(
            "
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{{ certificate_chain: {{ filename: \"{pem}\" }}, private_key: {{ filename: \"{pem}\" }} }}]"
        );
        listeners.push_str(&envoy_listener("secure", &socket(secure.address), routes, &transport));
    }
    let plain = envoy_cluster("origin", &socket(origin.plain), "");
    let streams =
        origin.http2.map_or_else(String::new, |at| envoy_cluster("streams", &socket(at), ENVOY_HTTP2));
    format!(
        "static_resources:
  listeners:
{listeners}  clusters:
{plain}{streams}"
    )
}

/// Routes of what goes to the origin by HTTP/2, before the one of all else.
const ENVOY_STREAMS: &str = "
              - { match: { prefix: \"/h2\" }, route: { cluster: streams, timeout: 0s } }
              - { match: { prefix: \"/bench.Echo/\" }, route: { cluster: streams, timeout: 0s } }";

/// What makes a cluster speak HTTP/2.
const ENVOY_HTTP2: &str = "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
";

/// One cluster with one endpoint; `more` are further keys of it.
fn envoy_cluster(name: &str, endpoint: &str, more: &str) -> String {
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}]
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {endpoint} }} }}] }}]
{more}"
    )
}

/// One listener; `routes` come before the one of all else, `transport` is what its filter chain says of TLS.
fn envoy_listener(name: &str, address: &str, routes: &str, transport: &str) -> String {
    format!(
        "  - name: {name}
    address: {address}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          generate_request_id: false
          http_protocol_options: {{ accept_http_10: true }}
          delayed_close_timeout: 0s
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:{routes}
              - {{ match: {{ prefix: \"/\" }}, route: {{ cluster: origin, timeout: 0s }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true{transport}
"
    )
}
