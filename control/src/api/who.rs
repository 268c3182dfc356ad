//! Who asks: names and roles by bearer tokens, and what a role may do.

use std::fs;
use std::path::Path;

use subtle::ConstantTimeEq;

/// Shortest accepted token, in bytes.
const TOKEN_MIN: usize = 16;
/// Most tokens of a file.
pub(super) const TOKENS_MAX: usize = 1000;
/// Longest name of a token's holder, in bytes.
const NAME_MAX: usize = 64;

/// What one may do. Each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Look.
    Read,
    /// Endpoints, releases, formations, rollback.
    Deploy,
    /// Everything.
    Admin,
}

impl Role {
    /// As written in token files, logs and documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Deploy => "deploy",
            Role::Admin => "admin",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Role::Read, Role::Deploy, Role::Admin].into_iter().find(|role| role.word() == word)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The name beside the token; `local` without tokens.
    pub(crate) name: String,
    /// What the token allows.
    pub(crate) role: Role,
}

/// Bytes that never reach a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The bearer tokens, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// No token file is named: no token is asked for.
    #[default]
    None,
    /// One of them is asked for. Never shown.
    Set(Vec<(Who, Secret)>),
    /// A file is named and there was never a usable token in it: nobody is let in.
    Unusable,
}

impl Tokens {
    /// Reads a token file: a token alone (role `admin`), or lines of `ROLE NAME TOKEN`; empty lines and those that begin
    /// with `#` count for nothing. The error is for people and holds no token.
    pub(crate) fn read(config: &Path, file: Option<&Path>) -> Result<Self, String> {
        let Some(file) = file else { return Ok(Tokens::None) };
        let path = config.parent().unwrap_or_else(|| Path::new("")).join(file);
        let place = path.display();
        let bytes = fs::read(&path).map_err(|error| format!("control.token_file {place}: {error}"))?;
        parse(&bytes).map_err(|error| format!("control.token_file {place}: {error}"))
    }

    /// Whose token this is. Takes as long for every token of the same length.
    pub(super) fn holder(&self, given: &[u8]) -> Option<&Who> {
        let Tokens::Set(all) = self else { return None };
        let mut holder = None;
        for (who, secret) in all {
            if bool::from(given.ct_eq(&secret.0)) {
                holder = Some(who);
            }
        }
        holder
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Tokens, String> {
    let mut all = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#")) {
        let number = number + 1;
        let words: Vec<&[u8]> =
            line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).collect();
        let (who, token) = match words.as_slice() {
            [token] => (Who { name: "admin".to_owned(), role: Role::Admin }, *token),
            [role, name, token] => (holder(role, name, number)?, *token),
            _ => return Err(format!("line {number}: write TOKEN, or ROLE NAME TOKEN")),
        };
        if token.len() < TOKEN_MIN {
            return Err(format!("line {number}: a token has at least {TOKEN_MIN} bytes"));
        }
        all.push((who, Secret(token.to_vec())));
    }
    match all.len() {
        0 => Err(format!("it holds no token; a token has at least {TOKEN_MIN} bytes")),
        1..=TOKENS_MAX => Ok(Tokens::Set(all)),
        _ => Err(format!("it holds more than {TOKENS_MAX} tokens")),
    }
}

fn holder(role: &[u8], name: &[u8], number: usize) -> Result<Who, String> {
    let role = std::str::from_utf8(role).ok().and_then(Role::of);
    let role = role.ok_or_else(|| format!("line {number}: a role is read, deploy or admin"))?;
    let name = std::str::from_utf8(name).ok().filter(|name| {
        name.len() <= NAME_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
    });
    let name = name.ok_or_else(|| {
        format!("line {number}: a name has at most {NAME_MAX} letters, digits, '-', '_', '.' and '@'")
    })?;
    Ok(Who { name: name.to_owned(), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_alone_is_an_admin_and_lines_name_roles() {
        let tokens = parse(b"  0123456789abcdef\n").unwrap();
        assert_eq!(tokens.holder(b"0123456789abcdef").unwrap().role, Role::Admin);
        let text = b"# people\nadmin ann ann-token-0123456\n\ndeploy ci  ci-token-01234567\nread grafana graf-token-012345\n";
        let tokens = parse(text).unwrap();
        let who = tokens.holder(b"ci-token-01234567").unwrap();
        assert_eq!((who.name.as_str(), who.role), ("ci", Role::Deploy));
        assert_eq!(tokens.holder(b"graf-token-012345").unwrap().role, Role::Read);
        assert_eq!(tokens.holder(b"ci-token-0123456"), None);
        assert!(!format!("{tokens:?}").contains("0123456"));
        for bad in [
            "",
            "# none\n",
            "short",
            "root ann ann-token-0123456",
            "admin a/b ann-token-0123456",
            "admin ann",
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(!error.contains("ann-token"), "{error}");
        }
    }
}
