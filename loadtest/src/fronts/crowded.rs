//! Proxies before endpoints that serve so many requests at once, for `overload`: the slots and the line of each. Requests for the
//! host `quiet` go to an endpoint of their own, which belongs to another app.
//!
//! HAProxy has `maxconn` and a queue with a timeout; nginx (without the commercial part) has `max_conns` and no queue.

use super::{Front, Kind};
use crate::failure::{Fallible, failure};
use crate::launch::{self, Launch, ROUTER_CORE};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What a proxy stands before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowded<'a> {
    /// Endpoints of the crowded app.
    pub(crate) endpoints: &'a [SocketAddr],
    /// Requests at once of each.
    pub(crate) slots: usize,
    /// Requests that may wait.
    pub(crate) queue: usize,
    /// The endpoint of the quiet app.
    pub(crate) quiet: SocketAddr,
}

/// Starts a proxy before these endpoints and waits until it answers, with its files in a directory of its own in `dir`.
pub(crate) fn start_crowded(kind: Kind, before: Crowded<'_>, dir: &Path) -> Fallible<Front> {
    let program = kind.program()?;
    let address = launch::free_address()?;
    let name = format!("crowded-{}", kind.name());
    let dir = dir.join(&name);
    fs::create_dir_all(&dir)?;
    let launch = Launch::new(name.clone(), program, ROUTER_CORE);
    let launch = match kind {
        Kind::Ekiden => {
            let file = dir.join("ekiden.toml");
            let apps = dir.join("apps.d");
            fs::create_dir_all(&apps)?;
            fs::write(&file, process(address, before.quiet))?;
            fs::write(apps.join("crowded.toml"), app(before))?;
            super::ekiden(launch, &file, &dir, 1, "off", "off")
        }
        Kind::Haproxy => {
            let file = dir.join("proxy.cfg");
            fs::write(&file, haproxy(address, before))?;
            launch.args(["-q", "-db", "-f"]).arg(file)
        }
        Kind::Nginx => {
            let file = dir.join("proxy.cfg");
            fs::write(&file, nginx(address, before, &dir))?;
            launch.arg("-e").arg(dir.join("error.log")).arg("-p").arg(&dir).arg("-c").arg(file)
        }
        Kind::EkidenLogged
        | Kind::EkidenLimited
        | Kind::EkidenH2c
        | Kind::Envoy
        | Kind::Null
        | Kind::Pingora => {
            return Err(failure(format!("{} takes no part in this", kind.name())));
        }
    };
    let running = launch.start(&dir)?;
    let mut front = Front { kind, name, address, secure: None, running };
    front.await_ready("/", Duration::from_secs(15))?;
    Ok(front)
}

fn process(address: SocketAddr, quiet: SocketAddr) -> String {
    format!(
        "apps = \"apps.d\"\nmax_connections = 19000\n[access_log]\nto = \"off\"\n[listener.edge]\naddress = \"{address}\"\n\
         [cluster.quiet]\nendpoints = [\"{quiet}\"]\n[[route]]\nhost = \"quiet\"\ncluster = \"quiet\"\n"
    )
}

fn app(before: Crowded<'_>) -> String {
    let Crowded { endpoints, slots, queue, .. } = before;
    let list: Vec<String> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    format!(
        "caps = {{ in_flight = {}, buffered = \"256MiB\" }}\n[cluster.web]\nendpoints = [{}]\nslots = {slots}\n\
         queue = {{ max = {queue}, target = \"20ms\", interval = \"200ms\" }}\n[[route]]\ncluster = \"web\"\n",
        queue + slots * endpoints.len() + 1000,
        list.join(", ")
    )
}

fn servers(before: Crowded<'_>, each: impl Fn(usize, &SocketAddr) -> String) -> String {
    before.endpoints.iter().enumerate().map(|(number, at)| each(number, at)).collect()
}

fn haproxy(address: SocketAddr, before: Crowded<'_>) -> String {
    let Crowded { slots, queue, quiet, endpoints } = before;
    let most = queue.div_ceil(endpoints.len());
    let servers =
        servers(before, |number, at| format!("  server e{number} {at} maxconn {slots} maxqueue {most}\n"));
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
  timeout queue 20ms
  http-reuse always
  balance leastconn
frontend edge
  bind {address} backlog 4096
  maxconn 19000
  use_backend quiet if {{ hdr(host) -i quiet }}
  default_backend web
backend web
{servers}backend quiet
  server quiet {quiet}
"
    )
}

fn nginx(address: SocketAddr, before: Crowded<'_>, dir: &Path) -> String {
    let (slots, quiet, shown) = (before.slots, before.quiet, dir.display());
    let servers = servers(before, |_, at| format!("    server {at} max_conns={slots} max_fails=0;\n"));
    let place = "      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n";
    format!(
        "daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {shown}/nginx.pid;
error_log {shown}/error.log crit;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  upstream web {{
    zone web 64k;
    least_conn;
{servers}    keepalive 64;
    keepalive_requests 1000000000;
  }}
  upstream quiet {{
    server {quiet};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {address} default_server backlog=4096;
    location / {{
      proxy_pass http://web;
{place}    }}
  }}
  server {{
    listen {address};
    server_name quiet;
    location / {{
      proxy_pass http://quiet;
{place}    }}
  }}
}}
"
    )
}
