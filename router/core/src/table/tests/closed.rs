//! A rule that closes a path closes it for every reader: whatever is spelled, the open rule beside it never takes a
//! request whose forwarded path some reader takes for the closed one.

use proptest::prelude::*;
use proptest::sample::select;

use super::words::{Head, app, model, rule};
use super::{Compiler, Facts, Generation, Table};
use crate::claims::Shown;
use crate::table::Match;

/// How an endpoint may read a path after it has decoded it once.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// Slashes merged, dots resolved: nginx.
    Plain,
    /// Segments cut at `;` first, as servlet containers do.
    Parameters,
    /// Backslashes taken for slashes.
    Backslashes,
}

fn decoded(path: &str) -> Vec<u8> {
    let (mut out, bytes) = (Vec::new(), path.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// The segments a reader sees.
fn read(reader: Reader, path: &str) -> Vec<Vec<u8>> {
    let cut: String = match reader {
        Reader::Parameters => {
            let cut: Vec<&str> = path.split('/').map(|part| part.split(';').next().unwrap_or("")).collect();
            cut.join("/")
        }
        Reader::Plain | Reader::Backslashes => path.to_owned(),
    };
    let slash = |byte: &u8| *byte == b'/' || (matches!(reader, Reader::Backslashes) && *byte == b'\\');
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for part in decoded(&cut).split(slash) {
        match part {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            part => segments.push(part.to_vec()),
        }
    }
    segments
}

fn table() -> std::sync::Arc<Table> {
    let rules = vec![rule("- /"), rule("- /admin")];
    let model = std::sync::Arc::new(model([app("one", rules, &[])]));
    Compiler::new(1).compile(&model, Generation(1)).table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn no_spelling_is_taken_by_the_open_rule(
        pieces in prop::collection::vec(
            select(vec![
                "/", "/", "/", "//", "%2f", "%2F", "\\", "%5c", "%5C", ".", "..", "%2e", "%2E", ".%2e", ";", ";x=y", "%3b",
                "%252e", "%252f", "%255c", "%c0%af", "%c0%ae", "%e0%80%af", "%ef%bc%8f", "%20", "%09", "%00", "x",
                "admin", "admin", "%61dmin", "adm%69n", "%61%64%6D%69%6e", "Admin", "%2561dmin",
            ]),
            1..9,
        ),
        merge in any::<bool>(),
    ) {
        let raw = format!("/{}", pieces.concat());
        let (mut scratch, mut loose) = (String::new(), String::new());
        let Ok(path) = crate::path::normalize(&raw, merge, &mut scratch) else { return Ok(()) };
        let facts = Facts {
            host: "a.b",
            path,
            loose: crate::path::loose(path, &mut loose),
            query: "",
            method: "GET",
            fields: &Head::default(),
            client_cert: None,
            claims: Shown::Nothing,
        };
        let table = table();
        let Match::Route(entry) = table.find(0, &facts) else { return Ok(()) };
        if entry.route.name.as_str() == "r1" {
            for reader in [Reader::Plain, Reader::Parameters, Reader::Backslashes] {
                let seen = read(reader, path);
                prop_assert_ne!(
                    seen.first().map(Vec::as_slice), Some(&b"admin"[..]), "{} goes on as {}, {:?}", raw, path, reader
                );
            }
        }
    }
}
