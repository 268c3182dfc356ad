//! From what people wrote to parts of a Model: names resolve, values make sense together, texts get their stored
//! form. Works on one file at a time and goes on after each finding; what spans files is `build`'s.

mod action;
mod admission;
mod affinity;
mod app;
mod auth;
mod authorizer;
mod claims;
mod client_cert;
mod cluster;
mod condition;
mod connect;
mod cors;
mod entrance;
mod etcd;
mod faults;
mod field;
mod fleet;
mod grpc;
mod host;
mod key;
mod limit;
mod load;
mod mirror;
mod network;
mod overload;
mod path;
mod pattern;
mod process;
mod proxy;
mod raw;
mod readiness;
mod resilience;
mod route;
mod shard;
mod spread;
mod store;
mod timeout;
mod tls;
mod token;
mod trust;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Report;
use crate::model::{Address, ListenerProtocol, Role, may_use};
use crate::names::{AppName, ListenerName, NameError, TrustName};
use crate::raw::{Spanned, nearest, shown};
use crate::source::Span;

use network::network;

pub(crate) use app::{AppParts, CheckedApp, app};
pub(crate) use process::{CheckedProcess, process};

/// Which planes the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Planes {
    /// Both.
    #[default]
    Both,
    /// Control alone: routers give its names a meaning.
    Control,
    /// The router alone: no app is written here.
    Router,
}

/// What the checks of an app need to know about the rest of the process.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Which planes the process has.
    pub(crate) planes: Planes,
    /// Every listener written, with its role, also those that have errors of their own.
    pub(crate) listeners: BTreeMap<ListenerName, Role>,
    /// Those of them that carry something else than HTTP.
    pub(crate) protocols: BTreeMap<ListenerName, ListenerProtocol>,
    /// Those of them that ask clients for certificates.
    pub(crate) asks_certificates: BTreeSet<ListenerName>,
    /// Sockets of the process that no endpoint may be, with their names.
    pub(crate) own: Vec<(Address, &'static str)>,
    /// Every app there is a file for, and `default`.
    pub(crate) apps: BTreeSet<AppName>,
    /// Authorities of endpoints, each with the apps that may use it.
    pub(crate) authorities: BTreeMap<TrustName, Vec<AppName>>,
    /// Identities, each with the apps that may show it.
    pub(crate) identities: BTreeMap<TrustName, Vec<AppName>>,
    /// Files of users, each with the apps that may use it.
    pub(crate) users: BTreeMap<TrustName, Vec<AppName>>,
    /// Who signs tokens, likewise.
    pub(crate) issuers: BTreeMap<TrustName, Vec<AppName>>,
    /// Files of keys of programs, likewise.
    pub(crate) api_keys: BTreeMap<TrustName, Vec<AppName>>,
    /// Files of keys of affinity, likewise.
    pub(crate) affinity_keys: BTreeMap<TrustName, Vec<AppName>>,
    /// Stores of limits, likewise.
    pub(crate) stores: BTreeMap<TrustName, Vec<AppName>>,
    /// Etcds that hold endpoints, likewise.
    pub(crate) discoveries: BTreeMap<TrustName, Vec<AppName>>,
}

impl World {
    /// Names of listeners, authorities and the like are taken as they are: routers know them.
    fn is_open(&self) -> bool {
        self.planes == Planes::Control
    }

    /// Apps come from control, and their endpoints apart from them.
    fn is_router(&self) -> bool {
        self.planes == Planes::Router
    }

    /// Whether an app is the process file's own, and may hold paths of this machine.
    fn may_hold_paths(&self, app: &AppName) -> bool {
        self.planes == Planes::Both && *app == AppName::default_app()
    }

    /// Whether an app may use an entry that lists these apps. Of a router, no app is the process file's own.
    fn may_use(&self, app: &AppName, apps: &[AppName]) -> bool {
        match self.planes {
            Planes::Both | Planes::Control => may_use(app, apps),
            Planes::Router => apps.contains(app),
        }
    }
}

/// One file being checked.
pub(crate) struct Scope<'r, 's> {
    pub(crate) report: &'r mut Report<'s>,
    pub(crate) world: &'r World,
    /// Regular expressions so far; bounded per app.
    pub(crate) patterns: usize,
}

impl Scope<'_, '_> {
    /// Makes a checked name of a text.
    fn name<T>(&mut self, text: &Spanned<String>, make: fn(&str) -> Result<T, NameError>) -> Option<T> {
        match make(&text.value) {
            Ok(name) => Some(name),
            Err(error) => {
                let help = "names are 1 to 128 of A-Z a-z 0-9 - _ .";
                let message = format!("the name `{}` {error}", shown(&text.value));
                self.report.error_help(text.span, "bad_name", message, help);
                None
            }
        }
    }

    /// Reports that a text is none of the known names.
    fn unknown<'c>(
        &mut self,
        code: &'static str,
        what: &str,
        text: &Spanned<String>,
        known: impl Iterator<Item = &'c str> + Clone,
    ) {
        let help = match nearest(&text.value, known.clone()) {
            Some(name) => Some(format!("did you mean `{name}`?")),
            None => {
                let all = known.take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                (!all.is_empty()).then(|| format!("known: {all}"))
            }
        };
        let message = format!("there is no {what} `{}`", shown(&text.value));
        self.report.error_maybe(text.span, code, message, help);
    }

    /// Notes the outcome of a check that knows no report.
    fn accept<T>(&mut self, span: Span, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.report.error_maybe(span, fault.code, fault.message, fault.help)).ok()
    }

    /// Names of listeners, each of which must be there; a repeated one counts once.
    fn listeners(&mut self, names: &[Spanned<String>]) -> Vec<ListenerName> {
        let mut found: Vec<ListenerName> = Vec::with_capacity(names.len());
        for text in names {
            match self.world.listeners.get_key_value(text.value.as_str()) {
                Some((name, _)) if !found.contains(name) => found.push(name.clone()),
                Some(_) => {}
                None if self.world.is_open() => {
                    let name = self.name(text, ListenerName::new);
                    found.extend(name.filter(|name| !found.contains(name)));
                }
                None => {
                    let known = self.world.listeners.keys().map(ListenerName::as_str);
                    self.unknown("unknown_listener", "listener", text, known);
                }
            }
        }
        found
    }
}

/// Why a text is not acceptable; the place is known to the caller.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
