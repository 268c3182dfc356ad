//! Commands that ask the control API: from arguments to one request, from its answer to lines and an exit code.
//!
//! Decides nothing: what may be done and what comes of it is the API's word.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ekiden_config::model::Address;
use ekiden_config::{Format, Source};
use ekiden_control::{AddressFlag, ApiAnswer, Asking, Client, ClientError};
use serde_json::{Map, Value, json};

use crate::cli::{
    Apply, Diff, Drain, Get, Hold, Maintenance, Releases, Rollback, Scale, Server, Set, Switch, Versions,
};
use crate::{exit, print};

/// What went wrong before an answer came, or what the answer refuses.
pub(crate) enum Failed {
    /// The arguments make no sense.
    Usage(String),
    /// Nobody answered.
    Unreachable(String),
    /// A problem document.
    Refused(Value),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Token(text) => Failed::Usage(text),
            ClientError::Unreachable(_) | ClientError::NotAnAnswer(_) => {
                Failed::Unreachable(error.to_string())
            }
        }
    }
}

/// Asks; a problem document is a failure.
pub(crate) fn ask(server: &Server, asking: Asking) -> Result<Value, Failed> {
    ask_for_tag(server, asking).map(|(value, _)| value)
}

/// As [`ask`], with the entity tag.
fn ask_for_tag(server: &Server, asking: Asking) -> Result<(Value, Option<String>), Failed> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let flag = match (&server.control, variable("EKIDEN_CONTROL")) {
        (Some(flag), _) => flag.clone(),
        (None, Some(text)) => {
            text.parse().map_err(|error| Failed::Usage(format!("EKIDEN_CONTROL: {error}")))?
        }
        (None, None) => AddressFlag::At(
            ekiden_control::control_beside(Path::new("."))
                .unwrap_or(Address::Tcp(([127, 0, 0, 1], 9902).into())),
        ),
    };
    let AddressFlag::At(address) = flag else {
        return Err(Failed::Usage("--control needs an address: IP:PORT or unix:PATH".to_owned()));
    };
    let token = server.token_file.clone().or_else(|| variable("EKIDEN_TOKEN_FILE").map(PathBuf::from));
    let ApiAnswer { status, tag, value } = Client::new(address, token.as_deref())?.ask(asking)?;
    if status < 300 { Ok((value, tag)) } else { Err(Failed::Refused(value)) }
}

pub(crate) fn get_of(target: String) -> Asking {
    Asking { method: "GET", target, ..Asking::default() }
}

pub(crate) fn json_of(method: &'static str, target: String, body: &Value) -> Asking {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    Asking { method, target, body: Some((kind, body.to_string().into_bytes())), fields: Vec::new() }
}

/// Percent-encodes a segment of a path or a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Prints an answer, or why there is none.
pub(crate) fn end(
    server: &Server,
    answer: Result<Value, Failed>,
    text: impl Fn(&Value) -> String,
) -> ExitCode {
    match answer {
        Ok(value) => {
            let pending = value["pending"] == true;
            let printed = if server.json { print(&format!("{value:#}\n")) } else { print(&text(&value)) };
            if pending { exit::pending() } else { printed }
        }
        Err(failed) => fail(server, failed),
    }
}

pub(crate) fn fail(server: &Server, failed: Failed) -> ExitCode {
    match failed {
        Failed::Usage(why) => {
            eprintln!("error: {why}");
            exit::usage()
        }
        Failed::Unreachable(why) => {
            eprintln!("error: {why}");
            exit::unreachable()
        }
        Failed::Refused(problem) => {
            if server.json {
                print(&format!("{problem:#}\n"));
            } else {
                eprint!("{}", problem_text(&problem));
            }
            exit::refused()
        }
    }
}

pub(crate) fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A problem for people: what is wrong, where, and all further findings.
fn problem_text(problem: &Value) -> String {
    let mut text = format!("error[{}]: {}\n", word(problem, "code"), word(problem, "detail"));
    let errors = problem.get("errors").and_then(Value::as_array);
    match errors {
        Some(errors) if !errors.is_empty() => {
            for one in errors {
                let place = [word(one, "pointer"), word(one, "spec_pointer")];
                let place = place.into_iter().find(|place| !place.is_empty()).unwrap_or("/");
                text.push_str(&format!("  at {place}: {}\n", word(one, "message")));
            }
        }
        _ if !word(problem, "pointer").is_empty() => {
            text.push_str(&format!("  at {}\n", word(problem, "pointer")));
        }
        _ => {}
    }
    let (status, id) = (&problem["status"], word(problem, "request_id"));
    text.push_str(&format!("  status {status}, request {id}\n"));
    text
}

/// The answer of a change, for people.
fn changed_text(answer: &Value) -> String {
    let mut text = String::new();
    for change in answer["changes"].as_array().into_iter().flatten() {
        let mark = match word(change, "op") {
            "add" => "+",
            "remove" => "-",
            _ => "~",
        };
        let from = change.get("from").filter(|_| mark == "~");
        let to = change.get("to");
        text.push_str(&format!("{mark} {}", word(change, "path")));
        from.iter().for_each(|from| text.push_str(&format!(" {from} ->")));
        to.iter().for_each(|to| text.push_str(&format!(" {to}")));
        text.push('\n');
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        text.push_str(&format!("warning[{}]: {}\n", word(warning, "code"), word(warning, "message")));
    }
    if let Some(more) = answer["changes_omitted"].as_u64().filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more changes, not shown\n"));
    }
    if answer["changed"] == false {
        return format!("{text}nothing differs\n");
    }
    if answer["dry_run"] == true {
        return format!("{text}would change: {}\n", word(answer, "summary"));
    }
    for (app, version) in answer["versions"].as_object().into_iter().flatten() {
        match version.as_u64() {
            Some(version) => text.push_str(&format!("{app} is at version {version}\n")),
            None => text.push_str(&format!("{app} is deleted\n")),
        }
    }
    if let Some(routers) = answer["routers"].as_object() {
        text.push_str(&format!("{} of {} routers have it\n", routers["have"], routers["of"]));
        for one in routers["refused"].as_array().into_iter().flatten() {
            let (router, part) = (word(one, "router"), word(one, "part"));
            text.push_str(&format!("refused by {router}: {part}: {}\n", word(one, "reason")));
        }
    }
    if answer["pending"] == true {
        text.push_str("pending: not every worker has it yet\n");
    }
    text
}

fn applying(what: &crate::cli::What, dry_run: bool, guard: Option<&str>) -> Result<Value, Failed> {
    let Some(format) = Format::of_path(&what.file) else {
        let file = what.file.display();
        return Err(Failed::Usage(format!(
            "{file} does not say how it is written: name it .toml, .yaml or .json"
        )));
    };
    let text = std::fs::read_to_string(&what.file)
        .map_err(|error| Failed::Usage(format!("{}: {error}", what.file.display())))?;
    let app = what.app.clone().or_else(|| only_app(&what.file, &text, format));
    if let Some(app) = app.as_ref().filter(|_| what.prune) {
        return Err(Failed::Usage(format!(
            "{} is the file of the one app {app}, and --prune would delete every other app of the API; \
             leave --prune out, or write all apps under `app.NAME`",
            what.file.display()
        )));
    }
    let mut query: Vec<String> = app.iter().map(|app| format!("app={}", encoded(app))).collect();
    for (set, name) in [(dry_run, "dry_run"), (what.prune, "prune"), (what.adopt, "adopt")] {
        query.extend(set.then(|| format!("{name}=true")));
    }
    query.extend(guard.map(|time| format!("guard={}", encoded(time))));
    let kind = match format {
        Format::Toml => "application/toml",
        Format::Yaml => "application/yaml",
        Format::Json => "application/json",
    };
    let target = format!("/v1/apply?{}", query.join("&"));
    ask(
        &what.server,
        Asking { method: "POST", target, body: Some((kind, text.into_bytes())), fields: Vec::new() },
    )
}

/// The app that a file is by its name, unless it says itself which apps it holds.
fn only_app(file: &Path, text: &str, format: Format) -> Option<String> {
    let source = Source { file: file.display().to_string(), text: text.to_owned(), format };
    let document = ekiden_config::document::document(&source).ok();
    if document.is_some_and(|document| document.get("app").is_some()) {
        return None;
    }
    Some(file.file_stem()?.to_string_lossy().into_owned())
}

/// `ekiden apply`.
pub(crate) fn apply(arguments: &Apply) -> ExitCode {
    let guard = arguments.guard.as_deref();
    let answer = applying(&arguments.what, arguments.dry_run, guard);
    let watched = answer.as_ref().ok().filter(|_| guard.is_some()).cloned();
    let ended = end(&arguments.what.server, answer, changed_text);
    match watched {
        Some(answer) => crate::guarded::follow(&arguments.what.server, &answer, ended),
        None => ended,
    }
}

/// `ekiden diff`.
pub(crate) fn diff(arguments: &Diff) -> ExitCode {
    let answer = applying(&arguments.what, true, None);
    let differs = answer.as_ref().is_ok_and(|answer| answer["changed"] == true);
    let ended = end(&arguments.what.server, answer, changed_text);
    if differs { exit::differs() } else { ended }
}

/// `ekiden get`.
pub(crate) fn get(arguments: &Get) -> ExitCode {
    let path = arguments.path.trim_start_matches('/');
    let path = path.strip_prefix("v1/").unwrap_or(path);
    let answer = ask(&arguments.server, get_of(format!("/v1/{path}")));
    end(&arguments.server, answer, |value| match value["apps"].as_array() {
        Some(apps) if path == "apps" => apps_text(apps),
        _ if path == "routers" => routers_text(value),
        _ if path == "sources" => crate::sources::text(value),
        _ => format!("{value:#}\n"),
    })
}

/// The fleet view for people.
fn routers_text(view: &Value) -> String {
    let mut lines = vec![["ROUTER", "LINK", "GENERATION", "APPS", "REFUSES"].map(str::to_owned)];
    for router in view["routers"].as_array().into_iter().flatten() {
        let apps =
            router["apps"].as_array().map(|apps| apps.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        let refused = router["refused"].as_array().into_iter().flatten();
        let refused: Vec<String> =
            refused.map(|one| format!("{} ({})", word(one, "part"), word(one, "reason"))).collect();
        lines.push([
            word(router, "name").to_owned(),
            if router["connected"] == true { "connected".to_owned() } else { "gone".to_owned() },
            router["generation"].as_u64().map_or("-".to_owned(), |generation| generation.to_string()),
            apps.map_or("all".to_owned(), |apps| apps.join(",")),
            if refused.is_empty() { "nothing".to_owned() } else { refused.join("; ") },
        ]);
    }
    table(&lines)
}

fn apps_text(apps: &[Value]) -> String {
    let mut lines = vec![["APP", "OWNER", "VERSION", "ROUTES", "READY", "STATE"].map(str::to_owned)];
    for app in apps {
        let clusters = || app["clusters"].as_array().into_iter().flatten();
        let sum = |name: &str| clusters().filter_map(|cluster| cluster[name].as_u64()).sum::<u64>();
        lines.push([
            word(app, "name").to_owned(),
            word(app, "owner").to_owned(),
            app["version"].as_u64().map_or("-".to_owned(), |version| version.to_string()),
            app["routes"].to_string(),
            format!("{}/{}", sum("ready"), sum("endpoints")),
            if app["refused"] == true { "refused".to_owned() } else { "ok".to_owned() },
        ]);
    }
    table(&lines)
}

/// Columns as wide as they must be.
pub(crate) fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let mut wide = [0; N];
    for line in lines {
        line.iter().zip(&mut wide).for_each(|(cell, wide)| *wide = cell.chars().count().max(*wide));
    }
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(wide).map(|(cell, wide)| format!("{cell:wide$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `a.b=VALUE` as a document to merge.
fn assigned(into: &mut Value, text: &str) -> Result<(), Failed> {
    let wrong = || Failed::Usage(format!("{text:?}: write KEY=VALUE, such as cluster.web.balance=p2c"));
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    let mut at = into;
    for step in path.split('.') {
        if step.is_empty() {
            return Err(wrong());
        }
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().ok_or_else(wrong)?.entry(step).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

/// `ekiden set`.
pub(crate) fn set(arguments: &Set) -> ExitCode {
    let mut spec = json!({});
    let read = arguments.values.iter().try_for_each(|text| assigned(&mut spec, text));
    let flags = [(arguments.dry_run, "dry_run=true"), (arguments.adopt, "adopt=true")];
    let query: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, text)| text).collect();
    let target = format!("/v1/apps/{}?{}", encoded(&arguments.app), query.join("&"));
    let answer =
        read.and_then(|()| ask(&arguments.server, json_of("PATCH", target, &json!({ "spec": spec }))));
    end(&arguments.server, answer, changed_text)
}

/// `ekiden scale`.
pub(crate) fn scale(arguments: &Scale) -> ExitCode {
    // `scale web=5` names no app.
    let count = arguments.app.as_ref().filter(|app| app.contains('='));
    let app = arguments.app.as_deref().filter(|_| count.is_none()).unwrap_or("default");
    let target = format!("/v1/apps/{}/formation", encoded(app));
    let mut processes = Map::new();
    for text in count.into_iter().chain(&arguments.counts) {
        let count = text.split_once('=').and_then(|(name, count)| Some((name, count.parse::<u32>().ok()?)));
        let Some((name, count)) = count else {
            return fail(
                &arguments.server,
                Failed::Usage(format!("{text:?}: write TYPE=COUNT, such as web=3")),
            );
        };
        processes.insert(name.to_owned(), json!(count));
    }
    let asking = if processes.is_empty() {
        get_of(target)
    } else {
        json_of("PATCH", target, &json!({ "processes": processes }))
    };
    end(&arguments.server, ask(&arguments.server, asking), |value| {
        let all = value["processes"].as_object().into_iter().flatten();
        let lines: String = all.map(|(name, count)| format!("{name}={count}\n")).collect();
        if lines.is_empty() { "no dynos are asked for\n".to_owned() } else { lines }
    })
}

/// `ekiden releases`.
pub(crate) fn releases(arguments: &Releases) -> ExitCode {
    let target = format!("/v1/apps/{}/releases", encoded(&arguments.app));
    if arguments.create {
        let body = json!({ "name": arguments.name, "description": arguments.description });
        let answer = ask(&arguments.server, json_of("POST", target, &body));
        return end(&arguments.server, answer, |value| {
            format!("release {} of {} is {}\n", value["release"], word(value, "app"), word(value, "name"))
        });
    }
    end(&arguments.server, ask(&arguments.server, get_of(target)), |value| {
        let mut lines = vec![["RELEASE", "NAME", "BY", "DESCRIPTION"].map(str::to_owned)];
        for one in value["releases"].as_array().into_iter().flatten() {
            let texts = ["name", "by", "description"].map(|name| word(one, name).to_owned());
            let [name, by, description] = texts;
            lines.push([one["release"].to_string(), name, by, description]);
        }
        table(&lines)
    })
}

/// `ekiden versions`.
pub(crate) fn versions(arguments: &Versions) -> ExitCode {
    let target = format!("/v1/apps/{}/versions", encoded(&arguments.app));
    end(&arguments.server, ask(&arguments.server, get_of(target)), |value| {
        let mut lines = vec![["VERSION", "BY", "WHY"].map(str::to_owned)];
        for one in value["versions"].as_array().into_iter().flatten() {
            lines.push([one["version"].to_string(), word(one, "by").to_owned(), word(one, "why").to_owned()]);
        }
        table(&lines)
    })
}

/// `ekiden rollback`.
pub(crate) fn rollback(arguments: &Rollback) -> ExitCode {
    let app = encoded(&arguments.app);
    let version = match arguments.version {
        Some(version) => Ok((version, None)),
        // "Before" is before the one that was read: it holds only while that is the newest.
        None => ask_for_tag(&arguments.server, get_of(format!("/v1/apps/{app}"))).and_then(|(value, tag)| {
            let before = value["version"].as_u64().and_then(|version| version.checked_sub(1));
            let before = before.filter(|version| *version > 0).ok_or_else(|| {
                Failed::Usage(format!("the app {} has no version before this one", arguments.app))
            });
            Ok((before?, tag))
        }),
    };
    let query = if arguments.dry_run { "?dry_run=true" } else { "" };
    let answer = version.and_then(|(version, tag)| {
        let target = format!("/v1/apps/{app}/rollback{query}");
        let asking = json_of("POST", target, &json!({ "version": version }));
        let fields = tag.map(|tag| ("if-match", tag)).into_iter().collect();
        ask(&arguments.server, Asking { fields, ..asking })
    });
    end(&arguments.server, answer, changed_text)
}

/// `ekiden drain`.
pub(crate) fn drain(arguments: &Drain) -> ExitCode {
    let parts: Vec<&str> = arguments.endpoint.splitn(3, '/').collect();
    let [app, cluster, id] = parts.as_slice() else {
        let why = format!("{:?}: write APP/CLUSTER/ID", arguments.endpoint);
        return fail(&arguments.server, Failed::Usage(why));
    };
    let target = format!("/v1/apps/{}/clusters/{}/endpoints/{}", encoded(app), encoded(cluster), encoded(id));
    let drain = !arguments.undo;
    let answer = ask(&arguments.server, json_of("PUT", target, &json!({ "drain": drain })));
    let endpoint = &arguments.endpoint;
    end(&arguments.server, answer, |value| match drain {
        _ if value["pending"] == true => format!("{endpoint}: pending: not every worker has it yet\n"),
        true => format!("{endpoint} gets no new requests\n"),
        false => format!("{endpoint} gets requests again\n"),
    })
}

/// `ekiden maintenance`.
pub(crate) fn maintenance(arguments: &Maintenance) -> ExitCode {
    let (app, server) = (&arguments.app, &arguments.server);
    let target = format!("/v1/apps/{}/maintenance", encoded(app));
    let page = arguments.page.as_deref().map(|file| {
        std::fs::read_to_string(file).map_err(|error| Failed::Usage(format!("{}: {error}", file.display())))
    });
    let answer = match (arguments.state, page.transpose()) {
        (_, Err(failed)) => Err(failed),
        (Switch::Off, Ok(Some(_))) => Err(Failed::Usage("--page goes with `on`".to_owned())),
        (Switch::Off, Ok(None)) => ask(server, Asking { method: "DELETE", target, ..Asking::default() }),
        (Switch::On, Ok(page)) => ask(server, json_of("PUT", target, &json!({ "page": page }))),
    };
    end(server, answer, |value| match (value["pending"] == true, arguments.state) {
        (true, _) => format!("{app}: pending: not every worker has it yet\n"),
        (false, Switch::On) => format!("{app} is in maintenance\n"),
        (false, Switch::Off) => format!("{app} serves\n"),
    })
}

/// A time as people write it, in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => match (text.strip_suffix('s'), text.strip_suffix('m')) {
            (Some(number), _) => (number, 1_000),
            (_, Some(number)) => (number, 60_000),
            (None, None) => return None,
        },
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// `ekiden hold`.
pub(crate) fn hold(arguments: &Hold) -> ExitCode {
    let server = &arguments.server;
    let (states, apps): (Vec<&String>, Vec<&String>) =
        arguments.words.iter().partition(|word| matches!(word.as_str(), "on" | "off"));
    let ([state], true) = (states.as_slice(), apps.len() <= 1) else {
        return fail(server, Failed::Usage("write APP on, or APP off".to_owned()));
    };
    let (on, app) = (*state == "on", apps.first().map_or("default", |app| app.as_str()));
    let wait_ms = arguments.wait.as_deref().map(|text| {
        milliseconds(text).ok_or_else(|| Failed::Usage(format!("{text:?} is no time: write 30s or 500ms")))
    });
    let target = format!("/v1/apps/{}/hold", encoded(app));
    let answer = match wait_ms.transpose() {
        Err(failed) => Err(failed),
        Ok(wait_ms) if !on && (wait_ms.is_some() || arguments.max.is_some()) => {
            Err(Failed::Usage("--max and --wait go with `on`".to_owned()))
        }
        Ok(_) if !on => ask(server, Asking { method: "DELETE", target, ..Asking::default() }),
        Ok(wait_ms) => {
            ask(server, json_of("PUT", target, &json!({ "max": arguments.max, "wait_ms": wait_ms })))
        }
    };
    end(server, answer, |value| match (value["pending"] == true, on) {
        (true, _) => format!("{app}: pending: not every worker has it yet\n"),
        (false, true) => {
            format!("{app} is held: {} requests wait at most, {} ms each\n", value["max"], value["wait_ms"])
        }
        (false, false) => format!("{app} goes on\n"),
    })
}
