//! Texts that say what dynos there are: a Procfile, the `.env` beside it, and a formation such as `web=3,worker=1`.
//!
//! Pure: from texts to values, or to what is wrong with them. Reads no file.

use std::collections::BTreeMap;

/// Process types of a Procfile, at most; as many as a formation may have.
const TYPES_MAX: usize = 100;
/// Longest name of a process type, in bytes.
const NAME_MAX: usize = 64;
/// Dynos of one type, at most, in a formation of the command line.
pub(crate) const DYNOS_MAX: u32 = 1_000;

/// What is wrong with a text, and in which line; 0: in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Counted from 1.
    pub(crate) line: usize,
    /// For people.
    pub(crate) why: String,
}

fn wrong(at: usize, why: impl Into<String>) -> Wrong {
    Wrong { line: at + 1, why: why.into() }
}

/// Whether this may be the name of a process type: what a dyno's name begins with.
fn is_type(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Reads a Procfile: `TYPE: COMMAND` in each line; empty lines and lines that begin with `#` say nothing.
pub(crate) fn commands(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let mut all = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, command) = line
            .split_once(':')
            .map(|(name, command)| (name.trim(), command.trim()))
            .filter(|(name, command)| is_type(name) && !command.is_empty())
            .ok_or_else(|| wrong(at, "write TYPE: COMMAND, such as `web: python3 app.py`"))?;
        if all.insert(name.to_owned(), command.to_owned()).is_some() {
            return Err(wrong(at, format!("the type `{name}` stands there twice")));
        }
        if all.len() > TYPES_MAX {
            return Err(wrong(at, format!("a Procfile has at most {TYPES_MAX} types")));
        }
    }
    if all.is_empty() {
        return Err(Wrong { line: 0, why: "it names no process type; write `web: COMMAND`".to_owned() });
    }
    Ok(all)
}

/// Reads a `.env`: `KEY=VALUE` in each line, `export` before it is passed over. A value in single quotes is taken as it is;
/// in one in double quotes `\n` is a new line and a backslash stands for the character behind it.
pub(crate) fn variables(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let mut all = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let plain = |key: &str| {
            !key.is_empty()
                && !key.starts_with(|c: char| c.is_ascii_digit())
                && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let (key, value) = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, value)| plain(key) && !value.contains('\0'))
            .ok_or_else(|| wrong(at, "write KEY=VALUE"))?;
        all.push((key.to_owned(), unquoted(value)));
    }
    Ok(all)
}

fn unquoted(value: &str) -> String {
    let inside =
        |quote: char| (value.len() > 1).then(|| value.strip_prefix(quote)?.strip_suffix(quote)).flatten();
    if let Some(text) = inside('\'') {
        return text.to_owned();
    }
    let Some(text) = inside('"') else { return value.to_owned() };
    let (mut made, mut rest) = (String::new(), text.chars());
    while let Some(c) = rest.next() {
        match (c, if c == '\\' { rest.next() } else { None }) {
            ('\\', Some('n')) => made.push('\n'),
            ('\\', Some(other)) => made.push(other),
            (c, _) => made.push(c),
        }
    }
    made
}

/// Reads a formation: `TYPE=COUNT` with commas between them; `all` stands for every type of the Procfile.
pub(crate) fn formation(text: &str) -> Result<BTreeMap<String, u32>, String> {
    let mut all = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, count) = part
            .split_once('=')
            .and_then(|(name, count)| Some((name.trim(), count.trim().parse::<u32>().ok()?)))
            .filter(|(name, count)| is_type(name) && *count <= DYNOS_MAX)
            .ok_or_else(|| format!("{part:?}: write TYPE=COUNT, such as web=3; at most {DYNOS_MAX} each"))?;
        all.insert(name.to_owned(), count);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_procfile_is_types_and_commands() {
        let read =
            commands("# app\n\nweb: bundle exec puma -p $PORT\n  worker :  sidekiq: -q a \r\n").unwrap();
        let wanted = pairs(&[("web", "bundle exec puma -p $PORT"), ("worker", "sidekiq: -q a")]);
        assert_eq!(read.into_iter().collect::<Vec<_>>(), wanted);
        for (text, line) in [
            ("web puma", 1),
            ("web: a\n: b", 2),
            ("web:\n", 1),
            ("web: a\nweb: b", 2),
            ("1web: a", 1),
            ("we b: a", 1),
            ("we.b: a", 1),
            ("", 0),
            ("# only this\n", 0),
        ] {
            assert_eq!(commands(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn an_env_file_is_keys_and_values() {
        let text = "# c\nA=1\nexport B = two words \nC='a \\n b'\nD=\"a\\nb \\\"q\\\" \\\\\"\nE=\nF=x=y\nG='\nH=\"\n";
        let wanted = pairs(&[
            ("A", "1"),
            ("B", "two words"),
            ("C", "a \\n b"),
            ("D", "a\nb \"q\" \\"),
            ("E", ""),
            ("F", "x=y"),
            ("G", "'"),
            ("H", "\""),
        ]);
        assert_eq!(variables(text).unwrap(), wanted);
        for (text, line) in [("A", 1), ("A=1\n=2", 2), ("A-B=1", 1), ("1A=1", 1)] {
            assert_eq!(variables(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn a_formation_is_types_and_counts() {
        let read = formation("web=3, worker=0,").unwrap();
        assert_eq!(read, BTreeMap::from([("web".to_owned(), 3), ("worker".to_owned(), 0)]));
        for bad in ["web", "web=", "web=-1", "=1", "web=1001", "we b=1"] {
            assert!(formation(bad).is_err(), "{bad}");
        }
    }
}
