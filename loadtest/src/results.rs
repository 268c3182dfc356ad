//! Writes the files of a run into `loadtest/out/` and, when asked to record, a section of `loadtest/RESULTS.md`.
//! Sections stand between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; the rest of the file is never touched.

use crate::failure::{Fallible, failure};
use std::fs;
use std::path::PathBuf;

/// The directory of this package: cargo's word when run by cargo, else where it was built.
pub(crate) fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Writes `out/NAME` and says so.
pub(crate) fn write_out(name: &str, text: &str) -> Fallible<()> {
    let dir = package_dir().join("out");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), text)?;
    println!("wrote loadtest/out/{name}");
    Ok(())
}

/// Writes both forms of a report, and the section of RESULTS.md when `record` is set.
pub(crate) fn publish(section: &str, json: &serde_json::Value, markdown: &str, record: bool) -> Fallible<()> {
    write_out(&format!("{section}.json"), &format!("{}\n", serde_json::to_string_pretty(json)?))?;
    write_out(&format!("{section}.md"), markdown)?;
    if record {
        let path = package_dir().join("RESULTS.md");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, replaced(&text, section, markdown)?)?;
        println!("recorded in loadtest/RESULTS.md, section {section}");
    }
    Ok(())
}

fn replaced(text: &str, section: &str, with: &str) -> Fallible<String> {
    let (begin, end) = (format!("<!-- {section}:begin -->"), format!("<!-- {section}:end -->"));
    let missing = || failure(format!("RESULTS.md holds no section {begin} ... {end}"));
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", with.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_is_replaced() {
        let text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin --><!-- y:end -->\n";
        let expected = "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n<!-- y:begin --><!-- y:end -->\n";
        assert_eq!(replaced(text, "x", "new\n").unwrap(), expected);
        assert!(replaced(text, "z", "new").is_err());
    }

    #[test]
    fn the_shipped_file_holds_every_section() {
        let text = fs::read_to_string(package_dir().join("RESULTS.md")).unwrap();
        for section in [
            "peers",
            "swap",
            "idle",
            "flap",
            "instructions",
            "limits",
            "attacks",
            "overload",
            "balance",
            "simulate",
            "chaos",
            "churn",
        ] {
            assert!(replaced(&text, section, "words").is_ok(), "{section}");
        }
    }
}
