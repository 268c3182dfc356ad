//! What may be asked: paths, methods and how long an answer waits for the workers.

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::{Generation, Ticket, Verdict};
use ekiden_config::names::{AppName, ClusterName, EndpointId, NameError};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Api, ApiSettings, body, guard, views};
use crate::overlay::{ClusterKey, Key};
use crate::plane::{Change, Mutation, as_json, verdict};
use crate::problem::Problem;

/// How long a mutation waits for all workers before it answers 202.
const APPLY_WAIT: Duration = Duration::from_millis(1500);

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Table,
    Status,
    Reload,
    Apps,
    App(AppName),
    Endpoints(ClusterKey),
    Endpoint(Key),
}

impl Thing {
    fn allow(&self) -> &'static str {
        match self {
            Thing::Table | Thing::Status | Thing::Apps | Thing::App(_) | Thing::Endpoints(_) => "GET, HEAD",
            Thing::Endpoint(_) => "GET, HEAD, PUT, DELETE",
            Thing::Reload => "POST",
        }
    }
}

/// An answer: status and document, or a problem.
type Answer = Result<(StatusCode, Value), Problem>;

/// Answers one request. Never fails: what goes wrong is a problem document.
pub(super) async fn answer(
    api: &Arc<Api>,
    settings: &ApiSettings,
    tcp: bool,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let answer = match guard::check(settings, tcp, &request) {
        Ok(()) => route(api, request).await,
        Err(problem) => Err(problem),
    };
    let (status, kind, value, problem) = match answer {
        Ok((status, value)) => (status, "application/json", value, None),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, "application/problem+json", problem.to_json(), Some(problem))
        }
    };
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(allow) = problem.and_then(|problem| problem.allow) {
        fields.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::UNAUTHORIZED {
        fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ekiden\""));
    }
    response
}

async fn route(api: &Arc<Api>, request: Request<Incoming>) -> Answer {
    let thing = thing(request.uri().path())?;
    let method = request.method().clone();
    let reads = method == Method::GET || method == Method::HEAD;
    let body = body::read(request).await?;
    if reads && thing != Thing::Reload {
        return view(Arc::clone(api), thing).await;
    }
    match (&thing, method) {
        (Thing::Endpoint(key), Method::PUT) => mutate(api, key, Change::Put(body::parse_put(&body)?)).await,
        (Thing::Endpoint(key), Method::DELETE) => mutate(api, key, Change::Delete).await,
        (Thing::Reload, Method::POST) => reload(api).await,
        (thing, method) => {
            let allow = thing.allow();
            let detail = format!("{method} is not possible here; possible are {allow}");
            Err(Problem { allow: Some(allow), ..Problem::new(405, "wrong_method", detail) })
        }
    }
}

/// Answers what only reads. A large table takes a while to write, so not on the control loop's thread.
async fn view(api: Arc<Api>, thing: Thing) -> Answer {
    let made = spawn_blocking(move || match &thing {
        Thing::Table => Ok(views::table(&api)),
        Thing::Status => views::status(&api),
        Thing::Apps => Ok(views::apps(&api)),
        Thing::App(app) => views::app(&api, app),
        Thing::Endpoints(place) => views::endpoints(&api, place),
        Thing::Endpoint(key) => views::endpoint(&api, key),
        Thing::Reload => Err(Problem::new(405, "wrong_method", "a reload is not read")),
    });
    made.await.map_err(|_| gone())?.map(|value| (StatusCode::OK, value))
}

/// Reads a path. Segments are decoded after they are cut, so an id may hold an encoded `/`.
fn thing(path: &str) -> Result<Thing, Problem> {
    let unknown =
        || Problem::new(404, "unknown_path", format!("there is nothing at {path}; start at /v1/status"));
    let segments: Vec<&str> = path.strip_prefix("/v1/").ok_or_else(unknown)?.split('/').collect();
    match segments.as_slice() {
        ["table"] => Ok(Thing::Table),
        ["status"] => Ok(Thing::Status),
        ["reload"] => Ok(Thing::Reload),
        ["apps"] => Ok(Thing::Apps),
        ["apps", app] => Ok(Thing::App(name("app", app, AppName::new)?)),
        ["apps", app, "clusters", cluster, "endpoints"] => Ok(Thing::Endpoints(ClusterKey {
            app: name("app", app, AppName::new)?,
            cluster: name("cluster", cluster, ClusterName::new)?,
        })),
        ["apps", app, "clusters", cluster, "endpoints", id] => Ok(Thing::Endpoint(Key {
            app: name("app", app, AppName::new)?,
            cluster: name("cluster", cluster, ClusterName::new)?,
            id: name("id", id, EndpointId::new)?,
        })),
        _ => Err(unknown()),
    }
}

fn name<T>(what: &str, segment: &str, make: impl Fn(&str) -> Result<T, NameError>) -> Result<T, Problem> {
    let bad = |why: String| Problem::new(400, "bad_name", format!("the {what} {segment:?} {why}"));
    let text = decoded(segment).ok_or_else(|| bad("is not percent-encoded UTF-8".to_owned()))?;
    make(&text).map_err(|error| bad(error.to_string()))
}

/// Percent-decoding; `None` for a broken escape or text that is not UTF-8.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn gone() -> Problem {
    Problem::new(503, "control_stopped", "control is stopping or failed; the table in force goes on serving")
}

async fn mutate(api: &Api, key: &Key, change: Change) -> Answer {
    let (reply, end) = oneshot::channel();
    let mutation = Mutation { key: key.clone(), change, reply };
    api.mutations.send(mutation).await.map_err(|_| gone())?;
    let done = end.await.map_err(|_| gone())??;
    let part = format!("app:{}", key.app);
    applied(api, &done.ticket, Some(&part), json!({})).await
}

async fn reload(api: &Api) -> Answer {
    let (reply, end) = oneshot::channel();
    api.reloads.send(Some(reply)).await.map_err(|_| gone())?;
    let reloaded = end.await.map_err(|_| gone())??;
    let more = json!({
        "changed": reloaded.changed,
        "summary": reloaded.summary,
        "refused_apps": reloaded.refused_apps,
        "diagnostics": as_json(&reloaded.diagnostics),
    });
    applied(api, &reloaded.ticket, None, more).await
}

/// Waits until every worker has the table, or answers that it is on its way. `part` is what must not be refused.
async fn applied(api: &Api, ticket: &Ticket, part: Option<&str>, mut more: Value) -> Answer {
    let ended = timeout(APPLY_WAIT, verdict(ticket)).await;
    let mut with = |generation: Option<Generation>, pending: bool| {
        if let Some(members) = more.as_object_mut() {
            members.insert("generation".to_owned(), json!(generation.map(|generation| generation.0)));
            if pending {
                members.insert("pending".to_owned(), json!(true));
            }
        }
        std::mem::take(&mut more)
    };
    match ended {
        // Before the router has numbered it, the next number is the best that can be said.
        Err(_) => {
            let generation = ticket.generation().unwrap_or(Generation(api.inspect.generation().0 + 1));
            Ok((StatusCode::ACCEPTED, with(Some(generation), true)))
        }
        Ok(Verdict::Rejected { reason }) => {
            let detail = format!("the change is recorded, but the router did not take the table: {reason}");
            Err(Problem::new(503, "not_applied", detail))
        }
        Ok(Verdict::Applied { generation, refused }) => {
            match refused.iter().find(|refusal| part.is_some_and(|part| refusal.part == part)) {
                Some(refusal) => {
                    let detail =
                        format!("the change is recorded, but the router refused it: {}", refusal.reason);
                    Err(Problem::new(503, "not_applied", detail))
                }
                None => Ok((StatusCode::OK, with(Some(generation), false))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_things() {
        let key = |id: &str| {
            Thing::Endpoint(Key {
                app: AppName::default_app(),
                cluster: ClusterName::new("web").unwrap(),
                id: EndpointId::new(id).unwrap(),
            })
        };
        let at = |id: &str| thing(&format!("/v1/apps/default/clusters/web/endpoints/{id}"));
        assert_eq!(at("a"), Ok(key("a")));
        assert_eq!(at("127.0.0.1:3000"), Ok(key("127.0.0.1:3000")));
        assert_eq!(at("unix:%2Frun%2Fa.sock"), Ok(key("unix:/run/a.sock")));
        assert_eq!(thing("/v1/table"), Ok(Thing::Table));
        for (path, code) in [
            ("/", "unknown_path"),
            ("/v1/table/", "unknown_path"),
            ("/v2/table", "unknown_path"),
            ("/v1/apps//clusters/web/endpoints", "bad_name"),
            ("/v1/apps/a%2", "bad_name"),
            ("/v1/apps/a%2Fb", "bad_name"),
            ("/v1/apps/%FF", "bad_name"),
        ] {
            assert_eq!(thing(path).unwrap_err().code, code, "{path}");
        }
    }
}
