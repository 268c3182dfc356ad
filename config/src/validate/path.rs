//! Path literals in the normal form of DESIGN section 3. A literal in another form is refused with the form to
//! write, never rewritten: the file then says what is matched.

use std::fmt::Write;
use std::sync::Arc;

use super::Fault;
use crate::raw::shown;

/// Checks a literal path and gives it as stored.
pub(super) fn literal(text: &str) -> Result<Arc<str>, Fault> {
    if !text.starts_with('/') {
        let help = format!("write `/{}`", shown(text.split("://").next().unwrap_or(text)));
        return Err(bad(text, "does not begin with `/`").help(help));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#' | '\\') || c.is_control()) {
        let fault = bad(text, &format!("holds the character {c:?}"));
        return Err(if c == '?' {
            fault.help("conditions on the query are written as `query = { name = \"value\" }`")
        } else {
            fault
        });
    }
    let normal = normal_form(text)?;
    if let Some(segment) = normal.split('/').find(|segment| matches!(*segment, "." | "..")) {
        return Err(bad(text, &format!("holds the segment `{segment}`")).help("write the path it leads to"));
    }
    if normal != text {
        let message = format!("the path `{}` is not in normal form and would never match", shown(text));
        return Err(Fault::new("path_not_normal", message).help(format!("write `{}`", shown(&normal))));
    }
    Ok(Arc::from(text))
}

/// Checks a literal prefix; a final `/` is not stored, since prefixes go by whole segments.
pub(super) fn prefix(text: &str) -> Result<Arc<str>, Fault> {
    let path = literal(text)?;
    Ok(match path.trim_end_matches('/') {
        "" => Arc::from("/"),
        trimmed => Arc::from(trimmed),
    })
}

/// Unreserved escapes decoded, hexadecimal in upper case, what clients must encode encoded.
fn normal_form(text: &str) -> Result<String, Fault> {
    let mut normal = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
            let pair = digit(bytes.next()).zip(digit(bytes.next()));
            let Some(decoded) = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) else {
                return Err(
                    bad(text, "holds a `%` without two hexadecimal digits").help("write `%25` for a `%`")
                );
            };
            if decoded == 0 {
                return Err(bad(text, "holds `%00`, which is refused in every request"));
            }
            if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
                normal.push(char::from(decoded));
            } else {
                // Writing to a String does not fail.
                let _ = write!(normal, "%{decoded:02X}");
            }
        } else if byte.is_ascii_graphic() {
            normal.push(char::from(byte));
        } else {
            let _ = write!(normal, "%{byte:02X}");
        }
    }
    Ok(normal)
}

fn bad(text: &str, why: &str) -> Fault {
    Fault::new("bad_path", format!("the path `{}` {why}", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        for (text, code) in [
            ("/", None),
            ("/a/b", None),
            ("/a//b", None),
            ("/a/", None),
            ("/a%2Fb", None),
            ("/%C3%A9", None),
            ("/a;v=1", None),
            ("/...", None),
            ("a", Some("bad_path")),
            ("", Some("bad_path")),
            ("/a?b", Some("bad_path")),
            ("/a#b", Some("bad_path")),
            ("/a\\b", Some("bad_path")),
            ("/a\u{0}", Some("bad_path")),
            ("/a%00", Some("bad_path")),
            ("/a%", Some("bad_path")),
            ("/a%2", Some("bad_path")),
            ("/a%+1", Some("bad_path")),
            ("/a/../b", Some("bad_path")),
            ("/a/.", Some("bad_path")),
            ("/a/%2e%2E/b", Some("bad_path")),
            ("/%41", Some("path_not_normal")),
            ("/%c3%a9", Some("path_not_normal")),
            ("/\u{e9}", Some("path_not_normal")),
            ("/a b", Some("path_not_normal")),
        ] {
            assert_eq!(literal(text).err().map(|fault| fault.code), code, "{text}");
        }
    }

    #[test]
    fn prefixes_lose_their_final_slash() {
        for (text, want) in [("/", "/"), ("//", "/"), ("/a/", "/a"), ("/a", "/a")] {
            assert_eq!(prefix(text).ok().as_deref(), Some(want));
        }
    }
}
