//! Edits of a route on texts: prefix rewrite, host rewrite and the `Location` of redirects. Pure functions.
//!
//! Header edits are applied by the router, on its own message type.

use ekiden_config::model::{Action, PathMatch, Redirect, Route};

/// What a redirect takes from the request where the route does not say.
#[derive(Debug, Clone, Copy)]
pub struct RedirectRequest<'a> {
    /// `http` or `https`: how the client came.
    pub scheme: &'a str,
    /// The host asked for, as [`crate::host::Authority`] gives it; empty when there was none.
    pub host: &'a str,
    /// The port asked for, if one was written.
    pub port: Option<u16>,
    /// The path in normal form.
    pub path: &'a str,
    /// The query without its `?`; empty when there was none.
    pub query: &'a str,
}

/// Whether [`rewritten_path`] may change the path on this route; when not, the router forwards the normal form as
/// it is, without a copy.
pub fn rewrites_path(route: &Route) -> bool {
    matches!(&route.action, Action::Forward(forward) if forward.prefix_rewrite.is_some())
}

/// Writes the path to forward into `out` (overwritten): the matched prefix replaced when the route says so, else the
/// path itself. A rewritten path never begins with `//`, which some servers read as an authority. Called by the
/// router before a head is written.
pub fn rewritten_path(route: &Route, path: &str, out: &mut String) {
    out.clear();
    match &route.action {
        Action::Forward(forward) => match &forward.prefix_rewrite {
            Some(replacement) => push_replaced(&route.path, path, replacement, out),
            None => out.push_str(path),
        },
        Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_) => out.push_str(path),
    }
}

/// The `Host` to send upstream instead of the request's own, if the route says so.
pub fn rewritten_host(route: &Route) -> Option<&str> {
    match &route.action {
        Action::Forward(forward) => forward.host_rewrite.as_deref(),
        Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_) => None,
    }
}

/// A prefix as matched: without its final `/`, so that `/` is the empty text.
pub(crate) fn prefix_base(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// Appends the path with the matched prefix replaced, joined by exactly one `/`. Paths that the prefix does not match
/// are appended unchanged.
fn push_replaced(condition: &PathMatch, path: &str, replacement: &str, out: &mut String) {
    let rest = match condition {
        PathMatch::Prefix(prefix) => path.strip_prefix(prefix_base(prefix)),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    };
    let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        out.push_str(path);
        return;
    };
    let start = out.len();
    if rest.is_empty() {
        out.push_str(replacement);
    } else {
        out.push_str(prefix_base(replacement));
        out.push_str(rest);
    }
    guard_slashes(out, start);
}

/// Makes what stands from `start` begin with exactly one `/`.
fn guard_slashes(out: &mut String, start: usize) {
    let tail = out.get(start..).unwrap_or("");
    let slashes = tail.len() - tail.trim_start_matches('/').len();
    match slashes {
        0 => out.insert(start, '/'),
        1 => {}
        many => out.replace_range(start..start + many - 1, ""),
    }
}

/// The value of `Location`: absolute when the route names a scheme or a host (and a host is known), else a path.
/// Where the scheme changes and no host is written, the request's port is dropped, as it belongs to the old scheme.
/// A path alone never begins with `//` (it would name another host), and no byte outside visible ASCII survives
/// unescaped, so that nothing can break out of the field. The query follows unless stripped. Called by the router for
/// each redirect; allocates the result.
pub fn redirect_location(
    redirect: &Redirect,
    condition: &PathMatch,
    request: &RedirectRequest<'_>,
) -> String {
    let mut out = String::with_capacity(request.path.len() + request.query.len() + 64);
    let wants_absolute = redirect.scheme.is_some() || redirect.host.is_some();
    let host = redirect.host.as_deref().unwrap_or(request.host);
    if wants_absolute && !host.is_empty() {
        let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
        push_visible(scheme, &mut out);
        out.push_str("://");
        push_visible(host, &mut out);
        if let (None, Some(port)) = (&redirect.host, request.port)
            && scheme == request.scheme
        {
            out.push(':');
            out.push_str(&port.to_string());
        }
    }
    let start = out.len();
    match (&redirect.path, &redirect.prefix) {
        (Some(path), _) => push_visible(path, &mut out),
        (None, Some(prefix)) => {
            let mut replaced = String::new();
            push_replaced(condition, request.path, prefix, &mut replaced);
            push_visible(&replaced, &mut out);
        }
        (None, None) => push_visible(request.path, &mut out),
    }
    guard_slashes(&mut out, start);
    if !redirect.strip_query && !request.query.is_empty() {
        let joint = if out.get(start..).is_some_and(|path| path.contains('?')) { '&' } else { '?' };
        out.push(joint);
        push_visible(request.query, &mut out);
    }
    out
}

/// Appends text with control bytes, spaces, backslashes and bytes outside ASCII percent-encoded. Backslashes, since
/// browsers read `/\` as `//`.
fn push_visible(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(Arc::from(text))
    }

    #[test]
    fn prefixes_are_replaced() {
        let table = [
            ("/api", "/v1", "/api", "/v1"),
            ("/api", "/v1", "/api/", "/v1/"),
            ("/api", "/v1", "/api/x", "/v1/x"),
            ("/api", "/v1/", "/api/x", "/v1/x"),
            ("/api", "/v1/", "/api", "/v1/"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/x", "/x"),
            ("/api", "/", "/api//evil.example", "/evil.example"),
            ("/api", "/v1", "/api//x", "/v1//x"),
            ("/", "/v1", "/", "/v1/"),
            ("/", "/v1", "/x", "/v1/x"),
            ("/", "/", "//x", "/x"),
            ("/api", "/v1", "/apix", "/apix"),
        ];
        for (from, to, path, expected) in table {
            let mut out = String::new();
            push_replaced(&prefix(from), path, to, &mut out);
            assert_eq!(out, expected, "{from} -> {to}: {path}");
        }
    }

    const REQUEST: RedirectRequest<'static> =
        RedirectRequest { scheme: "http", host: "a.example", port: Some(8080), path: "/old/x", query: "q=1" };

    fn plain() -> Redirect {
        Redirect { status: 308, scheme: None, host: None, path: None, prefix: None, strip_query: false }
    }

    #[test]
    fn locations() {
        let text = |text: &str| Some(Arc::<str>::from(text));
        let table = [
            (Redirect { scheme: text("https"), ..plain() }, "https://a.example/old/x?q=1"),
            (Redirect { scheme: text("http"), ..plain() }, "http://a.example:8080/old/x?q=1"),
            (Redirect { host: text("b:1"), ..plain() }, "http://b:1/old/x?q=1"),
            (Redirect { scheme: text("https"), host: text("b"), ..plain() }, "https://b/old/x?q=1"),
            (Redirect { path: text("/new"), ..plain() }, "/new?q=1"),
            (Redirect { path: text("/new?a=b"), ..plain() }, "/new?a=b&q=1"),
            (Redirect { path: text("/new"), strip_query: true, ..plain() }, "/new"),
            (Redirect { prefix: text("/new"), ..plain() }, "/new/x?q=1"),
            (Redirect { prefix: text("/"), strip_query: true, ..plain() }, "/x"),
            (Redirect { path: text("//evil"), ..plain() }, "/evil?q=1"),
            (Redirect { path: text("/\u{e4} \\"), strip_query: true, ..plain() }, "/%C3%A4%20%5C"),
        ];
        for (redirect, expected) in table {
            assert_eq!(redirect_location(&redirect, &prefix("/old"), &REQUEST), expected, "{redirect:?}");
        }
    }

    #[test]
    fn a_path_alone_names_no_other_host() {
        let redirect = Redirect { prefix: Some(Arc::from("/")), ..plain() };
        let request = RedirectRequest { path: "/old//evil.example", query: "", ..REQUEST };
        assert_eq!(redirect_location(&redirect, &prefix("/old"), &request), "/evil.example");
        let stripped = Redirect { strip_query: true, ..plain() };
        let request = RedirectRequest { path: "//evil.example", ..REQUEST };
        assert_eq!(redirect_location(&stripped, &prefix("/"), &request), "/evil.example");
    }

    #[test]
    fn without_a_host_the_location_is_a_path() {
        let redirect = Redirect { scheme: Some(Arc::from("https")), ..plain() };
        let request = RedirectRequest { host: "", port: None, ..REQUEST };
        assert_eq!(redirect_location(&redirect, &prefix("/"), &request), "/old/x?q=1");
    }

    proptest! {
        #[test]
        fn nothing_breaks_out_of_the_field(path in "/\\PC{0,12}[\r\n\\\\/]{0,3}\\PC{0,4}", query in "\\PC{0,8}[\r\n ]?") {
            let request = RedirectRequest { path: &path, query: &query, host: "", ..REQUEST };
            let location = redirect_location(&plain(), &prefix("/"), &request);
            prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
            prop_assert!(location.starts_with('/') && !location.starts_with("//"));
        }
    }
}
