//! From a request to its operation and back: who may ask, how often, what is written down of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::guard::Reach;
use super::idempotency::{Before, fingerprint};
use super::operations::{Found, Operation, What, find};
use super::reply::{Answer, Part, Reply, applied, gone};
use super::request::Ask;
use super::watch::ApiBody;
use super::who::Role;
use super::{
    Api, ApiSettings, apps, body, confirming, dynos, explain, fleet, guard, guarded, hold, maintenance,
    openapi, placements, records, views, watch,
};
use crate::clock::unix_ms;
use crate::overlay::Key;
use crate::plane::{Change, IfMatch, Mutation, as_json};
use crate::problem::Problem;
use crate::store::Standing;

/// Names a request in answers and logs; taken over from the client when it is plain.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over, in bytes.
const REQUEST_ID_MAX: usize = 128;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long somebody waits who is not let in, when there are too many of them.
const STRANGER_WAITS: Duration = Duration::from_secs(1);

/// Requests since the start, for ids.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Answers one request. Never fails: what goes wrong is a problem document.
pub(super) async fn answer(
    api: &Arc<Api>,
    settings: &Receiver<ApiSettings>,
    reach: Reach,
    request: Request<Incoming>,
) -> Response<ApiBody> {
    let id = request_id(request.headers());
    match answer_or_watch(api, settings, reach, request, &id).await {
        Ended::Answer(answer) => rendered(answer, &id),
        Ended::Watch(mut response) => {
            set_id(response.headers_mut(), &id);
            response
        }
    }
}

enum Ended {
    Answer(Answer),
    Watch(Response<ApiBody>),
}

fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_MAX
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain) {
        Some(id) => id.to_owned(),
        None => format!("{:x}-{:x}", unix_ms(), ASKED.fetch_add(1, Ordering::Relaxed)),
    }
}

fn set_id(headers: &mut HeaderMap, id: &str) {
    headers.extend(HeaderValue::from_str(id).ok().map(|id| (REQUEST_ID, id)));
}

async fn answer_or_watch(
    api: &Arc<Api>,
    settings: &Receiver<ApiSettings>,
    reach: Reach,
    request: Request<Incoming>,
    id: &str,
) -> Ended {
    let (method, target) = (request.method().clone(), request.uri().to_string());
    let checked = guard::check(&settings.borrow(), reach, &request);
    let who = match checked {
        Ok(who) => who,
        Err(problem) => {
            return Ended::Answer(turned_away(api, id, (method.as_str(), &target), problem).await);
        }
    };
    let path = request.uri().path().to_owned();
    let (operation, captures) = match find(method.as_str(), &path) {
        Found::One(operation, captures) => (operation, captures),
        Found::Methods(allow) => {
            let detail = format!("{method} is not possible here; possible are {allow}");
            return Ended::Answer(Err(Problem {
                allow: Some(allow),
                ..Problem::new(405, "wrong_method", detail)
            }));
        }
        Found::Nothing => {
            let detail = format!("there is nothing at {path}; /v1/openapi.json says what there is");
            return Ended::Answer(Err(Problem::new(404, "unknown_path", detail)));
        }
    };
    let writes = operation.method != "GET";
    let allowed = api.rates.take(&who.name, writes, Instant::now()).and_then(|()| allow(operation, who.role));
    if allowed.as_ref().is_err_and(|problem| problem.status == 429) {
        api.status.update(|status| status.api_rate_limited += 1);
    }
    let by = who.clone();
    let answer = match allowed {
        Err(problem) => Err(problem),
        Ok(()) => match prepare(operation, captures, request, who).await {
            Err(problem) => Err(problem),
            Ok(ask) if operation.what == What::Watch => match watch::start(api, &ask, settings) {
                Ok(response) => return Ended::Watch(response),
                Err(problem) => Err(problem),
            },
            Ok(ask) if writes => once(api, operation, ask, &target).await,
            Ok(ask) => look(Arc::clone(api), operation, ask).await,
        },
    };
    if writes || matches!(&answer, Err(problem) if problem.status == 403) {
        note(api, id, (&by.name, Some(by.role)), (method.as_str(), &target), &answer);
    }
    Ended::Answer(answer)
}

/// Answers somebody who is not let in. Beyond so many a second all of them wait and hear no more than that: nobody tries
/// tokens or fills the audit log as fast as the network is.
async fn turned_away(api: &Api, id: &str, (method, target): (&str, &str), problem: Problem) -> Answer {
    if let Err(too_many) = api.rates.take_stranger(Instant::now()) {
        api.status.update(|status| status.api_rate_limited += 1);
        sleep(STRANGER_WAITS).await;
        return Err(too_many);
    }
    let answer = Err(problem);
    note(api, id, ("nobody", None), (method, target), &answer);
    answer
}

fn allow(operation: &Operation, role: Role) -> Result<(), Problem> {
    if role >= operation.role {
        return Ok(());
    }
    let detail = format!("this needs the role {}; the token's is {}", operation.role.word(), role.word());
    Err(Problem::new(403, "role_too_low", detail))
}

async fn prepare(
    operation: &'static Operation,
    captures: super::operations::Captures<'_>,
    request: Request<Incoming>,
    who: super::who::Who,
) -> Result<Ask, Problem> {
    let headers = request.headers().clone();
    let mut ask = Ask::new(operation, &captures, request.uri().query(), headers, who)?;
    ask.body = body::read(request, operation.body).await?;
    Ok(ask)
}

/// Writes down who asked for what and how it ended.
fn note(
    api: &Api,
    id: &str,
    (name, role): (&str, Option<Role>),
    (method, target): (&str, &str),
    answer: &Answer,
) {
    let (status, code, revision) = match answer {
        Ok(reply) => (reply.status, None, reply.revision),
        Err(problem) => (problem.status, Some(problem.code), None),
    };
    let record = json!({
        "unix_ms": unix_ms(),
        "request_id": id,
        "who": name,
        "role": role.map(Role::word),
        "method": method,
        "target": target.chars().take(1024).collect::<String>(),
        "status": status,
        "code": code,
        "revision": revision,
    });
    // Not let through by who asks or how often: nothing was judged.
    let refusal = matches!(code, Some("role_too_low" | "too_many_requests")) || role.is_none();
    let noted = if refusal { api.audit.refused(record) } else { api.audit.note(record) };
    if !noted {
        api.status.update(|status| status.audit_dropped += 1);
    }
}

/// Does what changes something: once, when the request has a key for that.
async fn once(api: &Arc<Api>, operation: &'static Operation, ask: Ask, target: &str) -> Answer {
    let Some(key) = ask.headers.get(IDEMPOTENCY_KEY).cloned() else { return act(api, operation, &ask).await };
    let key = key.to_str().unwrap_or_default();
    let print = fingerprint(operation.method, target, &ask.headers, &ask.body);
    match api.idempotency.begin(&ask.who.name, key, print, Instant::now())? {
        Before::Done(answer) => answer.map(|mut reply| {
            reply.header(IDEMPOTENCY_REPLAYED, "true");
            reply
        }),
        Before::Go(key) => {
            let api = Arc::clone(api);
            // Goes on when the client goes away: it will ask again for the answer.
            let ended = tokio::spawn(async move {
                let answer = act(&api, operation, &ask).await;
                key.end(&answer, Instant::now());
                answer
            });
            ended.await.map_err(|_| gone())?
        }
    }
}

/// Where the store is shared, only the one that leads changes something; the others say who that is. A redirect would carry tokens
/// to another machine.
fn may_write(api: &Api, operation: &Operation) -> Result<(), Problem> {
    let Some(elector) = &api.elector else { return Ok(()) };
    let status = api.status.read();
    let election = status.election.as_ref();
    if operation.what == What::Reload || elector.leads() && election.is_some_and(|now| now.leads) {
        return Ok(());
    }
    let leader = election.and_then(|now| now.leader.as_ref());
    let reason =
        election.and_then(|now| now.reason.clone()).unwrap_or_else(|| "its lease is over".to_owned());
    let there = leader.and_then(|leader| leader.api.as_deref());
    let there = there.map(|there| format!("; ask {there}")).unwrap_or_default();
    let detail = format!("this process does not lead: {reason}; nothing was changed{there}");
    let mut problem = Problem::new(503, "not_leading", detail);
    problem.more.insert("leader".to_owned(), json!(leader));
    Err(problem)
}

async fn act(api: &Api, operation: &Operation, ask: &Ask) -> Answer {
    let link = api.status.read();
    if link.link.remote && operation.what != What::Reload {
        let detail = format!("this router takes its apps from control; ask there ({})", link.link.control);
        return Err(Problem::new(409, "asks_control", detail));
    }
    may_write(api, operation)?;
    match operation.what {
        What::Reload => reload(api).await,
        What::PutApp => apps::put(api, ask).await,
        What::PatchApp => apps::patch(api, ask).await,
        What::DeleteApp => apps::delete(api, ask).await,
        What::PutPart(part) => apps::put_part(api, ask, part).await,
        What::PatchPart(part) => apps::patch_part(api, ask, part).await,
        What::DeletePart(part) => apps::delete_part(api, ask, part).await,
        What::PutEndpoint => put_endpoint(api, ask).await,
        What::DeleteEndpoint => mutate(api, ask, Change::Delete).await,
        What::PutDyno => dynos::put(api, ask).await,
        What::PatchDyno => dynos::patch(api, ask).await,
        What::DeleteDyno => dynos::delete(api, ask).await,
        What::Rollback => apps::rollback(api, ask).await,
        What::PostRelease => records::post_release(api, ask).await,
        What::PutFormation => records::put_formation(api, ask).await,
        What::PatchFormation => records::patch_formation(api, ask).await,
        What::PutMaintenance => maintenance::put(api, ask).await,
        What::DeleteMaintenance => maintenance::delete(api, ask).await,
        What::PutHold => hold::put(api, ask).await,
        What::DeleteHold => hold::delete(api, ask).await,
        What::Apply => apps::apply(api, ask).await,
        What::PutPlacements => placements::put_all(api, ask).await,
        What::DeletePlacements => placements::delete_all(api, ask).await,
        What::PutPlacement => placements::put_one(api, ask).await,
        What::DeletePlacement => placements::delete_one(api, ask).await,
        What::Confirm => confirming::confirm(api, ask).await,
        What::Table
        | What::Explain
        | What::Status
        | What::Apps
        | What::App
        | What::Parts(_)
        | What::OnePart(_)
        | What::Endpoints
        | What::Endpoint
        | What::Dynos
        | What::Dyno
        | What::Versions
        | What::Version
        | What::VersionChanges
        | What::Releases
        | What::Release
        | What::Rollout
        | What::Formation
        | What::Maintenance
        | What::Hold
        | What::Guard
        | What::Placements
        | What::Sources
        | What::Hosts
        | What::Routers
        | What::Watch
        | What::Audit
        | What::OpenApi => Err(not_so(operation)),
    }
}

/// Answers what only reads. A large table takes a while to write, so not on the control loop's thread.
async fn look(api: Arc<Api>, operation: &'static Operation, ask: Ask) -> Answer {
    let made = spawn_blocking(move || match operation.what {
        What::Table => Ok(Reply::ok(views::table(&api))),
        What::Explain => explain::answer(&api, &ask),
        What::Status => views::status(&api).map(Reply::ok),
        What::Apps => views::apps(&api, &ask),
        What::App => views::app(&api, &ask.app()?),
        What::Parts(part) => apps::list_parts(&api, &ask, part),
        What::OnePart(part) => apps::one_part(&api, &ask, part),
        What::Endpoints => views::endpoints(&api, &ask.place()?).map(Reply::ok),
        What::Endpoint => views::endpoint(&api, &ask.endpoint()?),
        What::Dynos => dynos::list(&api, &ask),
        What::Dyno => dynos::one(&api, &ask),
        What::Versions => records::versions(&api, &ask),
        What::Version => records::version(&api, &ask),
        What::VersionChanges => records::version_changes(&api, &ask),
        What::Releases => records::releases(&api, &ask),
        What::Release => records::release(&api, &ask),
        What::Rollout => dynos::rollout(&api, &ask),
        What::Formation => records::formation(&api, &ask),
        What::Maintenance => maintenance::one(&api, &ask),
        What::Hold => hold::one(&api, &ask),
        What::Guard => guarded::one(&api, &ask),
        What::Placements => placements::one(&api, &ask),
        What::Sources => placements::sources(&api, &ask),
        What::Hosts => records::hosts(&api, &ask),
        What::Routers => fleet::routers(&api, &ask),
        What::Audit => Ok(Reply::ok(api.audit.recent())),
        What::OpenApi => Ok(Reply::ok(openapi::document())),
        What::Reload
        | What::PutApp
        | What::PatchApp
        | What::DeleteApp
        | What::PutPart(_)
        | What::PatchPart(_)
        | What::DeletePart(_)
        | What::PutEndpoint
        | What::DeleteEndpoint
        | What::PutDyno
        | What::PatchDyno
        | What::DeleteDyno
        | What::Rollback
        | What::PostRelease
        | What::PutFormation
        | What::PatchFormation
        | What::PutMaintenance
        | What::DeleteMaintenance
        | What::PutHold
        | What::DeleteHold
        | What::Apply
        | What::PutPlacements
        | What::DeletePlacements
        | What::PutPlacement
        | What::DeletePlacement
        | What::Confirm
        | What::Watch => Err(not_so(operation)),
    });
    made.await.map_err(|_| gone())?
}

/// Not reached: operations of GET look, the others act.
fn not_so(operation: &Operation) -> Problem {
    Problem::new(405, "wrong_method", format!("{} is not possible here", operation.method))
}

async fn put_endpoint(api: &Api, ask: &Ask) -> Answer {
    let mut put = body::parse_put(&ask.body)?;
    if ask.flag("adopt") {
        if ask.who.role < Role::Admin {
            return Err(Problem::new(403, "role_too_low", "to adopt an endpoint needs the role admin"));
        }
        put.standing = Standing::Adopted;
    }
    mutate(api, ask, Change::Put(put)).await
}

async fn mutate(api: &Api, ask: &Ask, change: Change) -> Answer {
    let conditions = ask.conditions.clone();
    send(api, ask.endpoint()?, change, (conditions.matches, conditions.absent)).await
}

/// Has the control loop change one endpoint, and waits until every worker has it.
pub(super) async fn send(
    api: &Api,
    key: Key,
    change: Change,
    (matches, absent): (Option<IfMatch>, bool),
) -> Answer {
    let (reply, end) = oneshot::channel();
    let parts = [Part::Cluster(key.place())];
    let mutation = Mutation { key, change, matches, absent, reply };
    api.mutations.send(mutation).await.map_err(|_| gone())?;
    let done = end.await.map_err(|_| gone())??;
    let mut reply = applied(api, &done.ticket, &parts, json!({})).await?;
    reply.revision = done.revision;
    if let Some(revision) = done.revision.filter(|_| done.tagged) {
        reply.tag(&format!("\"{revision}\""));
    }
    Ok(reply)
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
    applied(api, &reloaded.ticket, &[], more).await
}

fn rendered(answer: Answer, id: &str) -> Response<ApiBody> {
    let (status, kind, value, problem, more) = match answer {
        Ok(reply) => (reply.status, "application/json", reply.value, None, reply.headers),
        Err(problem) => {
            let mut value = problem.to_json();
            if let Some(members) = value.as_object_mut() {
                members.insert("request_id".to_owned(), Value::from(id));
            }
            (problem.status, "application/problem+json", value, Some(problem), Vec::new())
        }
    };
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(ApiBody::whole(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    fields.extend(more);
    set_id(fields, id);
    if let Some(allow) = problem.and_then(|problem| problem.allow) {
        fields.extend(HeaderValue::from_str(&allow).ok().map(|allow| (ALLOW, allow)));
    }
    match status {
        401 => drop(fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ekiden\""))),
        429 => drop(fields.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}
