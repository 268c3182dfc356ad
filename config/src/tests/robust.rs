//! No text makes the crate panic, and every finding has a place inside its text.

use proptest::prelude::*;

use super::*;

fn survives(text: &str, format: Format) {
    let main = source("a", text, format);
    let none = HostOwners::default();
    let app_file = (AppName::new("app").unwrap(), main.clone());
    let good = toml(LISTENER);
    let results = [
        build(Input { main: &main, apps: &[], previous: None, hosts: &none }),
        build(Input { main: &good, apps: &[app_file], previous: None, hosts: &none }),
    ];
    for result in results {
        let found = match result {
            Ok(built) => built.diagnostics,
            Err(found) => {
                assert!(found.iter().any(Diagnostic::is_error), "refused without a reason: {text:?}");
                found
            }
        };
        for d in found {
            assert!(d.line >= 1 && d.column >= 1 && d.width >= 1, "{d:?}");
            assert!(d.caret <= d.source_line.chars().count(), "{d:?}");
            assert!(d.to_string().contains(d.code));
            assert!(d.to_json().is_object());
        }
    }
}

/// Pieces of configuration files, glued in any order.
fn pieces() -> impl Strategy<Value = String> {
    let full = include_str!("../../examples/full.toml");
    let yaml = include_str!("../../examples/weighted.yaml");
    let json = include_str!("../../examples/smallest.json");
    let mut pieces: Vec<String> =
        [full, yaml, json].iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    let odd = [
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'''",
        "\"\"\"",
        "=",
        ":",
        "- ",
        "? ",
        "&a",
        "*a",
        "!!str",
        "|",
        ">",
        "%",
        "#",
        "\t",
        "\u{0}",
        "\u{feff}",
        "\u{e9}",
        "\\",
        "\\u",
        "\\ud800",
        "0x",
        "1e999",
        "-",
        "nan",
        "99999999999999999999",
        "---",
        "...",
        "[[route]]",
        "[cluster.\"\"]",
        "a.b.c.d = 1",
        "..",
        "1979-05-27",
    ];
    pieces.extend(odd.map(str::to_owned));
    let glue = prop_oneof![Just("\n"), Just(""), Just(" "), Just(",")];
    proptest::collection::vec((proptest::sample::select(pieces), glue), 0..40)
        .prop_map(|parts| parts.into_iter().map(|(piece, glue)| piece + glue).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            survives(&text, format);
        }
    }

    #[test]
    fn glued_pieces(text in pieces()) {
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            survives(&text, format);
        }
    }

    /// A good file with one stretch of bytes replaced.
    #[test]
    fn nearly_good(at in 0.0..1.0f64, len in 0..20usize, with in "[\\PC\n\t]{0,8}") {
        for (text, format) in [
            (include_str!("../../examples/full.toml"), Format::Toml),
            (include_str!("../../examples/weighted.yaml"), Format::Yaml),
            (include_str!("../../examples/smallest.json"), Format::Json),
        ] {
            let mut start = (text.len() as f64 * at) as usize;
            while !text.is_char_boundary(start) { start -= 1; }
            let mut end = (start + len).min(text.len());
            while !text.is_char_boundary(end) { end += 1; }
            survives(&format!("{}{with}{}", &text[..start], &text[end..]), format);
        }
    }
}

#[test]
fn deep_nesting() {
    for (open, format) in
        [("[", Format::Json), ("{\"a\":", Format::Json), ("[", Format::Yaml), ("{a: ", Format::Yaml)]
    {
        survives(&open.repeat(100_000), format);
    }
    survives(&format!("a = {}", "[".repeat(100_000)), Format::Toml);
    survives(&format!("{} = 1", vec!["a"; 10_000].join(".")), Format::Toml);
    survives(&(0..2000).map(|i| format!("{}- a\n", " ".repeat(i))).collect::<String>(), Format::Yaml);
}
