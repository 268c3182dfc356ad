//! Reads the field `Authorization`: which scheme it names, and name and password of Basic (RFC 7617). Strict; pure. Does not
//! verify.

use data_encoding::{BASE64, BASE64_NOPAD};

/// Longest field value that is looked at: a name and a password of the longest kind.
const VALUE_MAX: usize = 2048;
/// Longest password.
pub const PASSWORD_MAX: usize = 1024;

/// A name and a password. Does not show itself.
pub struct Login {
    text: Vec<u8>,
    colon: usize,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Login {
    /// The name, in UTF-8 and without control characters.
    pub fn name(&self) -> &str {
        self.text.get(..self.colon).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }

    /// The password, any bytes.
    pub fn password(&self) -> &[u8] {
        self.text.get(self.colon + 1..).unwrap_or(&[])
    }

    /// Both, as they were sent.
    pub fn whole(&self) -> &[u8] {
        &self.text
    }
}

/// What stands behind the name of a scheme, in any case of letters; none for another scheme.
pub fn of_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    name.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
}

/// Reads what stands behind `Basic`: base64, with or without padding, of `name:password`. None when it is not that, when the name
/// is empty or has control characters, or when either is longer than any that is known.
pub fn login(value: &[u8]) -> Option<Login> {
    if value.len() > VALUE_MAX {
        return None;
    }
    let text = BASE64.decode(value).or_else(|_| BASE64_NOPAD.decode(value)).ok()?;
    let colon = memchr::memchr(b':', &text)?;
    let name = std::str::from_utf8(text.get(..colon)?).ok()?;
    let is_good = !name.is_empty() && !name.chars().any(char::is_control);
    (is_good && text.len() - colon - 1 <= PASSWORD_MAX).then_some(Login { text, colon })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for (value, scheme, rest) in [
            ("Basic abc", "Basic", Some("abc")),
            ("bASIC   abc ", "Basic", Some("abc")),
            ("Basic", "Basic", None),
            ("Basic\tabc", "Basic", None),
            ("Basicabc", "Basic", None),
            ("Bearer abc", "Basic", None),
            ("", "Basic", None),
        ] {
            assert_eq!(of_scheme(value.as_bytes(), scheme), rest.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn logins() {
        let read = |text: &[u8]| login(BASE64.encode(text).as_bytes());
        let good = read(b"ann:a:b\xff").unwrap();
        assert_eq!((good.name(), good.password()), ("ann", &b"a:b\xff"[..]));
        assert_eq!(format!("{good:?}"), "Login(..)");
        assert_eq!(login(b"YW5uOg").unwrap().password(), b"");
        for bad in [&b":x"[..], b"ann", b"", b"a\nb:x", b"\xff:x", &[b'a'; 4096]] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
        for bad in [&b"YW5u Og=="[..], b"YW5uOg==x", b"YW5uOg=", b"YW5uO-_="] {
            assert!(login(bad).is_none(), "{bad:?}");
        }
    }
}
