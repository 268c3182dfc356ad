//! Configurations: no text of any format panics, a refusal says why with a place in the text, and the same text gives
//! the same Model again, also as an app file and over a previous Model.
#![no_main]

use ekiden_config::names::AppName;
use ekiden_config::{Diagnostic, Format, HostOwners, Input, Source, build};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        check(text, format);
    }
});

fn check(text: &str, format: Format) {
    let hosts = HostOwners::default();
    let main = source(text, format);
    let input = Input { main: &main, apps: &[], previous: None, hosts: &hosts };
    match build(input) {
        Err(all) => {
            assert!(!all.is_empty(), "refused without a word");
            all.iter().for_each(readable);
        }
        Ok(built) => {
            built.diagnostics.iter().for_each(readable);
            let again = build(Input { previous: Some(&built.model), hosts: &built.hosts, ..input });
            let again = again.expect("taken once, refused over itself");
            assert_eq!(again.model, built.model);
        }
    }
    let Ok(app) = AppName::new("app") else { return };
    let empty = source("", Format::Toml);
    let apps = [(app, source(text, format))];
    if let Ok(built) = build(Input { main: &empty, apps: &apps, ..input }) {
        built.diagnostics.iter().for_each(readable);
    }
}

fn source(text: &str, format: Format) -> Source {
    Source { file: "fuzz".to_owned(), text: text.to_owned(), format }
}

fn readable(diagnostic: &Diagnostic) {
    assert!(diagnostic.line >= 1 && diagnostic.column >= 1, "{diagnostic:?}");
    assert!(!diagnostic.message.is_empty() && !diagnostic.code.is_empty(), "{diagnostic:?}");
    assert!(!diagnostic.to_string().is_empty());
    let _json = diagnostic.to_json();
}
