//! Regular expressions: bounded in length, in compiled size and in number, anchored at both ends.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::{Fault, Scope};
use crate::model::PathRegex;
use crate::raw::Spanned;

/// Most regular expressions in one app.
const PATTERNS_MAX: usize = 1000;

/// Largest compiled expression, in bytes.
const COMPILED_MAX: usize = 256 << 10;

/// Largest cache of the lazy automaton, in bytes, per expression and thread.
const CACHE_MAX: usize = 1 << 20;

/// Compiles an expression so that only a whole match counts.
pub(super) fn pattern(scope: &mut Scope<'_, '_>, text: &Spanned<String>) -> Option<Arc<PathRegex>> {
    scope.patterns += 1;
    if scope.patterns > PATTERNS_MAX {
        // Said once; the app is refused anyway.
        if scope.patterns == PATTERNS_MAX + 1 {
            let message = format!("more than {PATTERNS_MAX} regular expressions in one app");
            scope.report.error_help(text.span, "too_many_regexes", message, "use exact paths and prefixes");
        }
        return None;
    }
    scope.accept(text.span, anchored(&text.value))
}

fn anchored(text: &str) -> Result<Arc<PathRegex>, Fault> {
    // Alone first: a text such as `a)|(b` must not close the group that anchors it.
    compile(text)?;
    let regex = compile(&format!("^(?:{text})$"))?;
    Ok(Arc::new(PathRegex { text: Arc::from(text), regex }))
}

fn compile(text: &str) -> Result<Regex, Fault> {
    let built =
        RegexBuilder::new(text).size_limit(COMPILED_MAX).dfa_size_limit(CACHE_MAX).nest_limit(50).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            let message = format!("the regular expression needs more than {} KiB", COMPILED_MAX >> 10);
            Fault::new("regex_too_large", message).help("bound its repetitions more tightly, or use a prefix")
        }
        other => {
            let words = other.to_string();
            let words = words.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            Fault::new("bad_regex", format!("not a regular expression: {words}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_matches_count() {
        let compiled = anchored("/a|/b+").unwrap();
        for (text, matches) in [("/a", true), ("/bb", true), ("/ab", false), ("/a\n", false), ("x/a", false)]
        {
            assert_eq!(compiled.regex.is_match(text), matches, "{text:?}");
        }
        assert!(!anchored("(?m)/a").unwrap().regex.is_match("/a\n/b"));
    }

    #[test]
    fn refused() {
        for (text, code) in [
            ("(", "bad_regex"),
            ("a)|(b", "bad_regex"),
            ("(?x)a #", "bad_regex"),
            ("(?=a)", "bad_regex"),
            ("(a{1000}){1000}", "regex_too_large"),
        ] {
            assert_eq!(anchored(text).err().map(|fault| fault.code), Some(code), "{text}");
        }
    }
}
