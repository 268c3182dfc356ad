//! The commands that ask the control API of a running process.

use std::path::PathBuf;

use clap::Args;
use ekiden_control::AddressFlag;

/// Where the API is, and how answers are printed.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Where the control API is: IP:PORT or unix:PATH [default: $EKIDEN_CONTROL, else that of the Procfile here if
    /// it runs, else 127.0.0.1:9902]
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<AddressFlag>,
    /// File that holds the bearer token [default: $EKIDEN_TOKEN_FILE, else none]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the API's document, for programs
    #[arg(long)]
    pub json: bool,
}

pub(super) const APPLY_EXAMPLES: &str = "\
Examples:
  ekiden apply shop.toml                 the app `shop`, from a file as the apps directory has them
  ekiden apply web.toml --app shop
  ekiden apply all.yaml --prune          apps by name under `app`; others of the API are deleted
  ekiden apply shop.toml --guard 60s     goes back by itself, and exits with 10, when errors or the p99 rise

Changes nothing when any app is refused; then it exits with 6.";

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub what: What,
    /// Only judge it and show what would differ
    #[arg(long)]
    pub dry_run: bool,
    /// Watch the apps for so long, such as 60s or 5m, wait for how that ends, and go back when errors or the p99 rise
    #[arg(long, value_name = "TIME", conflicts_with = "dry_run")]
    pub guard: Option<String>,
}

/// A file of apps.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// The file: TOML, or YAML or JSON by its extension
    pub file: PathBuf,
    /// The file is this one app [default: the file's name, unless it has apps under `app`]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Delete apps of the API that the file does not name
    #[arg(long)]
    pub prune: bool,
    /// Take over apps that files own
    #[arg(long)]
    pub adopt: bool,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  ekiden diff shop.toml
  ekiden diff all.yaml --prune --json | jq .changes

Exits with 0 when nothing differs and with 8 when something does.";

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub what: What,
}

pub(super) const GET_EXAMPLES: &str = "\
Examples:
  ekiden get apps
  ekiden get apps/shop
  ekiden get apps/shop/clusters/web/endpoints
  ekiden get sources                     where placements come from, and how that goes
  ekiden get routers                     of `ekiden control`: which router has what
  ekiden get status";

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What is under /v1, such as `apps` or `apps/shop/routes`
    pub path: String,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  ekiden explain http://shop.example/cart
  ekiden explain https://shop.example/cart -X POST -H 'Cookie: user=ann' --client 203.0.113.9
  ekiden explain /health --listener inside --json | jq .destination

Asks the running router, which sends nothing. Credentials and limits are shown, not judged.";

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// http://HOST/PATH, https://HOST/PATH or /PATH, with a query if there is one
    pub url: String,
    /// A field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The method
    #[arg(short = 'X', long = "method", value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The address of who asks
    #[arg(long, value_name = "IP")]
    pub client: Option<std::net::IpAddr>,
    /// The listener that takes it [default: the URL decides]
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const SET_EXAMPLES: &str = "\
Examples:
  ekiden set shop body_limit=1048576
  ekiden set shop cluster.web.balance=round_robin cluster.web.endpoints='[\"127.0.0.1:3000\"]'
  ekiden set shop body_limit=null        takes it away

A value that is JSON is taken as such, any other as a text.";

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The app
    pub app: String,
    /// KEY=VALUE; dots go into tables
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub values: Vec<String>,
    /// Only judge it and show what would differ
    #[arg(long)]
    pub dry_run: bool,
    /// Take the app over from the file that owns it
    #[arg(long)]
    pub adopt: bool,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const SCALE_EXAMPLES: &str = "\
Examples:
  ekiden scale shop                      what it is
  ekiden scale shop web=3 worker=1
  ekiden scale web=5                     dynos of the Procfile that runs from here";

/// Arguments of `scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The app [default: `default`, a Procfile's]
    pub app: Option<String>,
    /// TYPE=COUNT
    #[arg(value_name = "TYPE=COUNT")]
    pub counts: Vec<String>,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const DEPLOY_EXAMPLES: &str = "\
Examples:
  ekiden deploy
  ekiden deploy --description \"new cart\" && echo it serves
  ekiden deploy --guard 5m               goes back by itself, and exits with 10, when errors or the p99 rise

Reads the Procfile and .env again, starts dynos of them, waits until they are ready, has them take over, and lets the old
ones finish. Exits with 0 when the new release serves, with 10 when the old one serves on.";

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The app
    #[arg(default_value = "default")]
    pub app: String,
    /// The release's name [default: v and its number]
    #[arg(long)]
    pub name: Option<String>,
    /// What is in it
    #[arg(long)]
    pub description: Option<String>,
    /// Have it serve on trial so long, such as 60s or 5m, with the old dynos kept ready to take over again
    #[arg(long, value_name = "TIME")]
    pub guard: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const RELEASES_EXAMPLES: &str = "\
Examples:
  ekiden releases shop
  ekiden releases shop --create --name v42 --description \"new cart\"";

/// Arguments of `releases`.
#[derive(Debug, Args)]
pub(crate) struct Releases {
    /// The app
    pub app: String,
    /// Record one
    #[arg(long)]
    pub create: bool,
    /// Its name [default: v and its number]
    #[arg(long, requires = "create")]
    pub name: Option<String>,
    /// What is in it
    #[arg(long, requires = "create")]
    pub description: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// Arguments of `versions`.
#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// The app
    pub app: String,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const ROLLBACK_EXAMPLES: &str = "\
Examples:
  ekiden rollback shop                   to the version before
  ekiden rollback shop 7 --dry-run";

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The app
    pub app: String,
    /// The version [default: the one before]
    pub version: Option<u64>,
    /// Only judge it and show what would differ
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const MAINTENANCE_EXAMPLES: &str = "\
Examples:
  ekiden maintenance on shop
  ekiden maintenance on shop --page back-soon.html
  ekiden maintenance off shop
  ekiden get apps/shop/maintenance";

/// Arguments of `maintenance`.
#[derive(Debug, Args)]
pub(crate) struct Maintenance {
    /// What it is to be
    pub state: Switch,
    /// The app
    #[arg(default_value = "default")]
    pub app: String,
    /// File with the page that people get, in HTML
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    #[command(flatten)]
    pub server: Server,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

pub(super) const HOLD_EXAMPLES: &str = "\
Examples:
  ekiden hold shop on
  ekiden hold shop on --max 5000 --wait 20s
  ekiden hold shop off
  ekiden get apps/shop/hold

Requests wait in the router, and go on in the order in which they came when the app is released. Over the bounds they are
answered with 503.";

/// Arguments of `hold`.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// The app, and `on` or `off` [default app: `default`]
    #[arg(required = true, num_args = 1..=2, value_name = "APP on|off")]
    pub words: Vec<String>,
    /// Requests that may wait at a time
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// How long one waits at most, such as 30s or 500ms
    #[arg(long, value_name = "TIME")]
    pub wait: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const CONFIRM_EXAMPLES: &str = "\
Examples:
  ekiden get sources                     which source holds what
  ekiden confirm dns:web.internal
  ekiden confirm push:shop/web";

/// Arguments of `confirm`.
#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The source, as `ekiden get sources` names it
    pub source: String,
    #[command(flatten)]
    pub server: Server,
}

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  ekiden drain shop/web/127.0.0.1:3000
  ekiden drain shop/web/127.0.0.1:3000 --undo";

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// APP/CLUSTER/ID
    pub endpoint: String,
    /// Send it requests again
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub server: Server,
}
