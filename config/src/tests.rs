//! Whole-file tests: texts in, Models and findings out.

mod admission;
mod bad;
mod entrance;
mod examples;
mod formats;
mod limits;
mod ownership;
mod planes;
mod publish;
mod robust;
mod shards;
mod trust;

use crate::model::Model;
use crate::names::AppName;
use crate::{Built, Diagnostic, Format, HostOwners, Input, Source, build};

/// A source named after its format.
fn source(file: &str, text: &str, format: Format) -> Source {
    Source { file: file.to_owned(), text: text.to_owned(), format }
}

fn toml(text: &str) -> Source {
    source("ekiden.toml", text, Format::Toml)
}

fn app(name: &str, text: &str) -> (AppName, Source) {
    (AppName::new(name).unwrap(), source(&format!("apps.d/{name}.toml"), text, Format::Toml))
}

fn build_one(main: &Source) -> Result<Built, Vec<Diagnostic>> {
    build(Input { main, apps: &[], previous: None, hosts: &HostOwners::default() })
}

fn build_apps(main: &str, apps: &[(AppName, Source)], previous: Option<&Built>) -> Built {
    let none = HostOwners::default();
    let hosts = previous.map_or(&none, |built| &built.hosts);
    let model: Option<&Model> = previous.map(|built| &*built.model);
    build(Input { main: &toml(main), apps, previous: model, hosts }).unwrap()
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|d| d.code).collect()
}

/// A listener, for files that are about something else.
const LISTENER: &str = "[listener.edge]\naddress = \"127.0.0.1:8080\"\n";
