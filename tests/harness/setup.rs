//! Configurations for tests: a free port, a log file in a directory of their own, and the part under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::free_port;

/// What a router is started with.
#[derive(Debug)]
pub struct Setup {
    top: String,
    listener: String,
    text: String,
    workers: usize,
    log_format: &'static str,
    port: u16,
    dir: TempDir,
}

impl Setup {
    /// A setup whose listener `edge` is on a free port; `text` holds clusters and routes.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            top: String::new(),
            listener: String::new(),
            text: text.into(),
            workers: 1,
            log_format: "json",
            port: free_port(),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Keys before the first table.
    pub fn top(mut self, keys: &str) -> Self {
        self.top.push_str(keys);
        self.top.push('\n');
        self
    }

    /// Keys of the listener.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listener.push_str(keys);
        self.listener.push('\n');
        self
    }

    /// Worker threads; one unless told otherwise.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Format of the access log.
    pub fn log_format(mut self, format: &'static str) -> Self {
        self.log_format = format;
        self
    }

    /// How many workers.
    pub fn worker_count(&self) -> usize {
        self.workers
    }

    /// Where the listener is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory of this setup.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The access log.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    /// The process file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ekiden.toml")
    }

    /// The text of the process file, with `text` in place of the clusters and routes.
    pub fn config_with(&self, text: &str) -> String {
        let Setup { top, listener, log_format, port, .. } = self;
        let log = self.log();
        let log = log.display();
        format!(
            "{top}\n[access_log]\nto = \"{log}\"\nformat = \"{log_format}\"\n\
             [listener.edge]\naddress = \"127.0.0.1:{port}\"\n{listener}\n{text}\n"
        )
    }

    /// The text of the process file.
    pub fn config(&self) -> String {
        self.config_with(&self.text)
    }
}

/// `[cluster.NAME]` with these endpoints and keys.
pub fn cluster(name: &str, endpoints: &[SocketAddr], keys: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[cluster.{name}]\nendpoints = [{}]\n{keys}\n", list.join(", "))
}

/// One cluster `web` with these endpoints, and one route to it with these keys.
pub fn web(endpoints: &[SocketAddr], cluster_keys: &str, route_keys: &str) -> String {
    format!("{}\n[[route]]\ncluster = \"web\"\n{route_keys}\n", cluster("web", endpoints, cluster_keys))
}

/// Seconds of a soak: from the environment, else this many.
pub fn seconds(variable: &str, otherwise: u64) -> Duration {
    let set = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(otherwise))
}
