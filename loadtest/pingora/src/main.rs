//! A peer of the load tests: stock `pingora-proxy` with one thread, which asks Ekiden's table where a request goes.
//!
//! Measures what the same decisions cost on pingora's data path. Keep-alive on both sides, no log, no modules, no
//! TLS; pingora's defaults otherwise, which set no limit on idle connections and no deadlines upstream. It publishes
//! one table at start and never swaps it, probes nothing and counts nothing.

mod front;
mod route;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use front::Front;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::http_proxy_service;
use route::Router;

/// The lock file, from which `--version` takes pingora's version.
const LOCK: &str = include_str!("../Cargo.lock");

/// Forwards every request from one address to another.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Where to listen.
    #[arg(long, required_unless_present = "version")]
    listen: Option<SocketAddr>,
    /// Where the origin is.
    #[arg(long, required_unless_present = "version")]
    to: Option<SocketAddr>,
    /// Print the version of pingora-proxy.
    #[arg(long)]
    version: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (false, Some(listen), Some(to)) = (options.version, options.listen, options.to) else {
        println!("pingora-proxy {}", locked_version("pingora-proxy").unwrap_or("of an unknown version"));
        return ExitCode::SUCCESS;
    };
    match Router::new(listen, to) {
        Ok(router) => serve(listen, router),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM, which ends it at once.
fn serve(listen: SocketAddr, router: Router) -> ! {
    let conf = ServerConf {
        threads: 1,
        // With one thread there is nobody to steal from: tokio's runtime of one thread. A short comparison with
        // pingora's default found no difference beyond the noise.
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Front::new(router));
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run_forever()
}

/// The version of a package in the lock file this was built from.
fn locked_version(package: &str) -> Option<&'static str> {
    let mut lines = LOCK.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pingora_is_new_enough() {
        let version = locked_version("pingora-proxy").expect("it is locked");
        assert_ne!(version, "0.9.0", "panics on every connection with tokio 1.54");
        assert_eq!(locked_version("no-such-package"), None);
    }
}
