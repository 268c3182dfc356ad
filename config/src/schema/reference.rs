//! The reference page: every key with type, default and bounds, as Markdown.

use std::collections::BTreeSet;

use super::{bounds, flat};
use crate::raw::{Raw, RawApp, RawProcess, Shape, TableShape};

const HEAD: &str = "<!-- Made from config/src/raw/keys/ by the test `reference_is_current`; \
EKIDEN_BLESS=1 writes it anew. -->\n\
# Configuration reference\n\n\
One file in TOML, YAML or JSON, by extension; the keys are the same. Durations are texts with units (`\"500ms\"`, \
`\"5s\"`, `\"1m30s\"`), sizes are bytes or texts with units (`\"64KiB\"`, `\"10MB\"`), rates are texts \
(`\"100/s\"`, `\"30/m\"`, `\"5/h\"`). An unknown key is an error.\n";

/// The page. The committed copy is `config/REFERENCE.md`.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let mut done = BTreeSet::new();
    for shape in [RawProcess::shape(RawProcess::BOUND), RawApp::shape(RawApp::BOUND)] {
        tables(&shape, &mut page, &mut done);
    }
    page
}

fn tables(shape: &Shape, page: &mut String, done: &mut BTreeSet<&'static str>) {
    match shape {
        Shape::Table(table) => {
            if done.insert(table.title) {
                section(table, page);
                for key in &table.keys {
                    tables(&key.shape, page, done);
                }
            }
        }
        Shape::List { of, .. } => tables(of, page, done),
        Shape::Map(of) => tables(of, page, done),
        Shape::Either(shapes) => {
            for shape in shapes {
                tables(shape, page, done);
            }
        }
        Shape::Text { .. }
        | Shape::Flag
        | Shape::Count { .. }
        | Shape::Duration { .. }
        | Shape::Size { .. }
        | Shape::Rate { .. }
        | Shape::Factor { .. }
        | Shape::Words(_)
        | Shape::Status => {}
    }
}

fn section(table: &TableShape, page: &mut String) {
    page.push_str(&format!("\n## {}\n\n{}\n\n", table.title, flat(table.about)));
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in &table.keys {
        let kind = kind(&key.shape);
        let kind = match bounds(&key.shape) {
            Some(bounds) => format!("{kind}; {bounds}"),
            None => kind,
        };
        let default =
            if key.required() { "**required**".to_owned() } else { key.default.replace('|', "\\|") };
        page.push_str(&format!(
            "| `{}` | {kind} | {default} | {} |\n",
            key.key,
            flat(key.doc).replace('|', "\\|")
        ));
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Text { .. } => "text".to_owned(),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Count { .. } => "number".to_owned(),
        Shape::Duration { .. } => "duration".to_owned(),
        Shape::Size { .. } => "size".to_owned(),
        Shape::Rate { .. } => "rate".to_owned(),
        Shape::Factor { .. } => "factor".to_owned(),
        Shape::Words(words) => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or ")
        }
        Shape::Status => "statuses".to_owned(),
        Shape::List { of, .. } => format!("list of {}", kind(of)),
        Shape::Map(of) => format!("table by name: {}", kind(of)),
        Shape::Table(table) => table.title.to_owned(),
        Shape::Either(shapes) => shapes.iter().map(kind).collect::<Vec<_>>().join(" or "),
    }
}
