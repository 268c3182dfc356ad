//! Cookies as conditions and split keys see them: the values of one name in a `Cookie` field.
//!
//! Reads only; lenient as RFC 6265 section 5.4 asks of what servers receive.

/// The values of a cookie in one `Cookie` field, in order, without surrounding double quotes. Names are
/// case-sensitive; a piece without `=` is no cookie. Copies nothing.
pub fn values<'a>(field: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    field.split(|&byte| byte == b';').filter_map(move |piece| {
        let equals = piece.iter().position(|&byte| byte == b'=')?;
        let (key, value) = piece.split_at_checked(equals)?;
        (key.trim_ascii() == name.as_bytes()).then(|| {
            let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
            value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_name() {
        let read = |field: &'static str, name: &'static str| {
            values(field.as_bytes(), name)
                .map(|v| String::from_utf8_lossy(v).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(read("a=1; b=2;a=3", "a"), ["1", "3"]);
        assert_eq!(read("a=1; b=2", "c"), [""; 0]);
        assert_eq!(read(" a = \"x y\" ", "a"), ["x y"]);
        assert_eq!(read("a", "a"), [""; 0]);
        assert_eq!(read("a=", "a"), [""]);
        assert_eq!(read("A=1", "a"), [""; 0]);
        assert_eq!(read("a=b=c", "a"), ["b=c"]);
        assert_eq!(read("a=\"", "a"), ["\""]);
    }
}
