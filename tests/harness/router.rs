//! The router inside the test's process: no control plane, no telemetry; a publish is a call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::{Inspect, Publisher, Verdict};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_config::{Format, HostOwners, Input, Source};
use ekiden_router::swap::Swap;
use ekiden_router::{Options, Router};
use serde_json::Value;

use crate::{Client, Response, Setup, until};

/// What serves a setup, in process or not.
pub trait Served {
    /// The setup it was started with.
    fn setup(&self) -> &Setup;

    /// Where the listener is.
    fn address(&self) -> SocketAddr {
        self.setup().address()
    }

    /// A new connection.
    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &str) -> Response {
        self.client().ask(request)
    }

    /// `GET path` on a connection of its own, with Host `a`.
    fn get(&self, path: &str) -> Response {
        self.client().get("a", path)
    }

    /// The lines of the access log once there are at least this many.
    fn log_lines(&self, count: usize) -> Vec<String> {
        let path = self.setup().log();
        until(&format!("{count} lines in the access log"), || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<String> = text
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'))
                .map(str::to_owned)
                .collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// The records of the access log once there are at least this many.
    fn records(&self, count: usize) -> Vec<Value> {
        let lines = self.log_lines(count);
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// A router of this process.
pub struct InProcess {
    router: Option<Router>,
    publisher: Swap,
    setup: Setup,
}

impl Served for InProcess {
    fn setup(&self) -> &Setup {
        &self.setup
    }
}

impl InProcess {
    /// Starts one and publishes its configuration.
    ///
    /// # Panics
    /// When the configuration is refused.
    pub fn start(setup: Setup) -> Self {
        let built = build(&setup.config());
        let router = Router::start(Options {
            workers: setup.worker_count(),
            access_log: built.process.access_log.clone(),
            max_connections: built.process.max_connections,
            overload: built.process.overload,
            place: built.process.place.clone(),
            inherited: ekiden_router::listen::Inherited::default(),
            base_dir: setup.dir().to_owned(),
            on_fatal: Arc::new(|reason| {
                eprintln!("fatal: {reason}");
                std::process::abort();
            }),
        })
        .unwrap();
        let publisher = router.publisher().unwrap();
        let mut this = Self { router: Some(router), publisher, setup };
        this.take(built);
        this
    }

    /// Publishes other clusters and routes; returns when every worker serves them.
    pub fn publish(&mut self, text: &str) {
        let built = build(&self.setup.config_with(text));
        self.take(built);
    }

    fn take(&mut self, built: ekiden_config::Built) {
        match self.publisher.publish(built.model).wait(crate::DEADLINE) {
            Some(Verdict::Applied { refused, .. }) if refused.is_empty() => {}
            other => panic!("the router did not take it: {other:?}"),
        }
    }

    /// The running router.
    pub fn router(&self) -> &Router {
        self.router.as_ref().unwrap()
    }

    /// Live state of the endpoints of a cluster of the app `default`: id and state.
    pub fn endpoints(&self, cluster: &str) -> Vec<(String, String)> {
        let inspect: Arc<dyn Inspect> = self.router().inspect();
        let app = AppName::default_app();
        let endpoints = inspect.endpoints(&app, &ClusterName::new(cluster).unwrap()).unwrap_or_default();
        endpoints.into_iter().map(|status| (status.id.to_string(), status.state.to_owned())).collect()
    }

    /// Waits until every endpoint of a cluster is in this state.
    pub fn wait_state(&self, cluster: &str, state: &str) {
        until(&format!("{cluster} {state}"), || {
            let all = self.endpoints(cluster);
            (!all.is_empty() && all.iter().all(|(_, s)| s == state)).then_some(())
        });
    }

    /// Drains like SIGTERM does and waits for idleness; whether it came within the time.
    pub fn drain(&self, within: Duration) -> bool {
        self.router().drain();
        self.router().await_idle(within, || false)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(router) = self.router.take() {
            router.stop();
        }
    }
}

fn build(text: &str) -> ekiden_config::Built {
    let source = Source { file: "ekiden.toml".to_owned(), text: text.to_owned(), format: Format::Toml };
    let hosts = HostOwners::default();
    let built = ekiden_config::build(Input { main: &source, apps: &[], previous: None, hosts: &hosts });
    built.unwrap_or_else(|all| {
        panic!("refused:\n{}", all.iter().map(|d| format!("{d}\n")).collect::<String>())
    })
}
