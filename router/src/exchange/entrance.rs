//! The steps that a request passes before its route serves it, beside `allow`, `deny` and limits: takes away what only the router
//! may say, knows the key of a program, judges credentials, tells the endpoint who it is.
//!
//! The order is stated in `config::model::Entrance`. What takes longer than a lookup is waited for outside of the table (see
//! [`wait`]). Does not read files and does not hash passwords (see `crate::entrance`).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ekiden_config::model::{ApiKeys, Auth, Listener, Tokens, may_use};
use ekiden_config::names::{AppName, TrustName};
use ekiden_core::outcome::Cause;
use ekiden_core::policy::entrance::{EntranceSteps, Ruling, Step};
use ekiden_core::policy::limit::{Asked, Takes, Turn, give_back, take};
use ekiden_core::query;
use ekiden_core::table::RouteEntry;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::entrance::basic::{Login, login, of_scheme};
use crate::entrance::hashing::Known;
use crate::entrance::tokens::{self, Fault, Issuer};
use crate::entrance::users::Users;
use crate::exchange::Workspace;
use crate::exchange::authorizer::{self, Stop};
use crate::exchange::downstream::Downstream;
use crate::exchange::forward::is_client_gone;
use crate::exchange::learn;
use crate::exchange::request_out::client_address;
use crate::head::FieldId;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Longest wait for a verdict, in milliseconds: the line is served by then, or the machine is not.
const VERDICT_MS: u64 = 60_000;

/// What is known of who asks. Empty for a route without credentials.
#[derive(Debug, Default)]
pub struct EntranceNote {
    key: KeyState,
    /// What has to be found out elsewhere.
    open: Option<Open>,
    /// A token was sent and was not good.
    bad_token: bool,
    /// It waited for keys before its route was known, and does not again.
    learned: bool,
}

#[derive(Debug)]
enum Open {
    /// Whether a password is right.
    Password(Box<Password>),
    /// Whether the issuer of a token has a key that is not known yet.
    Key(Arc<Issuer>),
}

#[derive(Debug, Default, PartialEq, Eq)]
enum KeyState {
    /// No key was sent, or none is asked for.
    #[default]
    Absent,
    /// It is nobody's.
    Unknown,
    /// There are no keys to compare it with.
    Unavailable,
    /// The id of its owner.
    Known(Arc<str>),
}

#[derive(Debug)]
struct Password {
    users: Arc<Users>,
    name: TrustName,
    login: Login,
    mark: [u8; 32],
}

impl EntranceNote {
    /// Forgets. Called before a request and after it.
    pub fn clear(&mut self) {
        self.key = KeyState::Absent;
        self.open = None;
        self.bad_token = false;
        self.learned = false;
    }

    /// Notes that the request has waited for keys.
    pub fn set_learned(&mut self) {
        self.learned = true;
    }

    /// Whether it has.
    pub fn has_learned(&self) -> bool {
        self.learned
    }

    /// The id of the key of a program.
    pub fn key_id(&self) -> Option<&str> {
        match &self.key {
            KeyState::Known(id) => Some(id),
            KeyState::Absent | KeyState::Unknown | KeyState::Unavailable => None,
        }
    }
}

/// Begins, before anything can be refused and logged: notes whose pages ask, takes away the fields that only the steps may set, and
/// finds out whose key it is, so that limits can count by it. Judges nothing.
pub fn begin(worker: &Worker, steps: &EntranceSteps, ws: &mut Workspace, app: &AppName) {
    if let Some(cors) = &steps.cors {
        ws.cors.take(cors, &ws.request.head);
    }
    if steps.sets_any() {
        ws.request.head.retain(|_, name| !steps.sets(name));
    }
    let Some(words) = steps.words.auth.as_ref().and_then(|auth| auth.api_keys.as_ref()) else { return };
    ws.entrance.key = key_state(worker, words, ws, app);
    if let Some(name) = &words.query {
        ws.request.mask_parameter(name);
    }
}

fn key_state(worker: &Worker, words: &ApiKeys, ws: &Workspace, app: &AppName) -> KeyState {
    let keys = worker.shared.keyring.keys(&words.keys).filter(|keys| may_use(app, &keys.apps));
    let find = |key: &[u8]| match &keys {
        None => KeyState::Unavailable,
        Some(keys) => keys.find(key).map_or(KeyState::Unknown, |id| KeyState::Known(Arc::clone(id))),
    };
    let mut fields = ws.request.head.get_all(words.header.as_bytes());
    match (fields.next(), fields.next()) {
        (Some(key), None) => return find(key),
        // Which of two counts is not guessed.
        (Some(_), Some(_)) => return KeyState::Unknown,
        (None, _) => {}
    }
    let Some(name) = &words.query else { return KeyState::Absent };
    let all = query::parameters(ws.request.query().unwrap_or(""));
    let mut values = all.filter(|(raw, _)| query::is_text(raw, name)).map(|(_, raw)| raw);
    match (values.next(), values.next()) {
        (Some(raw), None) => match query::decoded(raw) {
            Some(key) => find(&key),
            None => find(raw.as_bytes()),
        },
        (Some(_), Some(_)) => KeyState::Unknown,
        (None, _) => KeyState::Absent,
    }
}

/// Judges what the request shows. True when [`wait`] has to decide.
///
/// # Errors
/// Why it is not let in.
pub fn judge(
    worker: &Worker,
    steps: &EntranceSteps,
    ws: &mut Workspace,
    app: &AppName,
) -> Result<bool, Cause> {
    let must_ask = steps.words.authorizer.is_some();
    let Some(auth) = &steps.words.auth else { return Ok(must_ask) };
    judge_credentials(worker, auth, ws, app).map(|must_wait| must_wait || must_ask)
}

fn judge_credentials(worker: &Worker, auth: &Auth, ws: &mut Workspace, app: &AppName) -> Result<bool, Cause> {
    let count = |step, ruling| worker.shard.rulings.count(step, ruling);
    match std::mem::take(&mut ws.entrance.key) {
        KeyState::Absent => {}
        KeyState::Known(id) => {
            count(Step::ApiKey, Ruling::Allowed);
            let_pass(auth, ws, &id);
            // Nobody has judged it, and the endpoint may take it for judged.
            if auth.users.is_some() || auth.tokens.is_some() {
                ws.request.head.remove(b"authorization");
            }
            ws.entrance.key = KeyState::Known(id);
            return Ok(false);
        }
        KeyState::Unknown => {
            count(Step::ApiKey, Ruling::Refused);
            return Err(Cause::CredentialsRefused);
        }
        KeyState::Unavailable => {
            count(Step::ApiKey, Ruling::Failed);
            return Err(Cause::CredentialsUnavailable);
        }
    }
    judge_authorization(worker, auth, ws, app)
}

/// Judges what stands in `Authorization`: a token or a password.
fn judge_authorization(
    worker: &Worker,
    auth: &Auth,
    ws: &mut Workspace,
    app: &AppName,
) -> Result<bool, Cause> {
    let count = |step, ruling| worker.shard.rulings.count(step, ruling);
    let mut fields = ws.request.head.get_all(b"authorization");
    let (Some(value), second) = (fields.next(), fields.next()) else { return Err(Cause::CredentialsMissing) };
    if let Some(words) = &auth.tokens
        && let Some(token) = of_scheme(value, "Bearer")
    {
        if second.is_some() {
            count(Step::Token, Ruling::Refused);
            return Err(Cause::CredentialsRefused);
        }
        let issuer =
            worker.shared.keyring.issuer(&words.issuer).filter(|issuer| may_use(app, &issuer.words.apps));
        let verified = &worker.shard.tokens_verified;
        let verdict = issuer.as_ref().map_or(Err(Fault::NoKeys), |issuer| issuer.verify(token, verified));
        drop(fields);
        if let (Err(Fault::UnknownKey | Fault::NoKeys), Some(issuer)) = (&verdict, issuer)
            && worker.shared.keyring.ask_again(&words.issuer, &issuer)
        {
            ws.entrance.open = Some(Open::Key(issuer));
            return Ok(true);
        }
        return rule_token(worker, auth, words, ws, verdict).map(|()| false);
    }
    let (Some(name), Some(value)) = (&auth.users, of_scheme(value, "Basic")) else {
        return Err(Cause::CredentialsMissing);
    };
    let refused = || {
        count(Step::Password, Ruling::Refused);
        Cause::CredentialsRefused
    };
    let login = login(value).filter(|_| second.is_none()).ok_or_else(refused)?;
    drop(fields);
    let Some((users, hashing)) =
        worker.shared.keyring.users(name).filter(|(users, _)| may_use(app, &users.apps))
    else {
        count(Step::Password, Ruling::Failed);
        return Err(Cause::CredentialsUnavailable);
    };
    match hashing.ask(&users, &login) {
        Known::Verdict(true) => {
            count(Step::Password, Ruling::Allowed);
            let_pass(auth, ws, login.name());
            Ok(false)
        }
        Known::Verdict(false) => Err(refused()),
        Known::Unknown(mark) => {
            let password = Password { users, name: name.clone(), login, mark };
            ws.entrance.open = Some(Open::Password(Box::new(password)));
            Ok(true)
        }
    }
}

/// Counts the verdict on a token, and lets the request pass with what the token says.
fn rule_token(
    worker: &Worker,
    auth: &Auth,
    words: &Tokens,
    ws: &mut Workspace,
    verdict: Result<Arc<Value>, Fault>,
) -> Result<(), Cause> {
    let count = |ruling| worker.shard.rulings.count(Step::Token, ruling);
    let claims = verdict.map_err(|fault| {
        count(if fault == Fault::NoKeys { Ruling::Failed } else { Ruling::Refused });
        ws.entrance.bad_token = true;
        match fault {
            Fault::Refused | Fault::UnknownKey => Cause::CredentialsRefused,
            Fault::Expired => Cause::TokenExpired,
            Fault::NoKeys => Cause::CredentialsUnavailable,
        }
    })?;
    let has = |(name, values): &(Arc<str>, Vec<Arc<str>>)| {
        tokens::claim(&claims, name).is_some_and(|value| tokens::holds(value, values))
    };
    if !words.require.iter().all(has) {
        count(Ruling::Refused);
        return Err(Cause::ClaimRefused);
    }
    count(Ruling::Allowed);
    let told = |name: &str| tokens::claim(&claims, name).and_then(tokens::text);
    hide(auth, ws);
    for (field, name) in &words.claims {
        if let Some(text) = told(name) {
            ws.request.head.set(field.as_bytes(), text.as_bytes());
        }
    }
    if let (Some(field), Some(subject)) = (&auth.id_header, told("sub")) {
        ws.request.head.set(field.as_bytes(), subject.as_bytes());
    }
    Ok(())
}

/// Waits for the answer of who has the keys, a moment, and judges the token again.
async fn wait_for_key<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    entry: &RouteEntry,
    issuer: &Issuer,
) -> Result<(), Cause> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let auth = entry.entrance.as_ref().and_then(|steps| steps.words.auth.as_ref());
    let Some((auth, words)) = auth.and_then(|auth| Some((auth, auth.tokens.as_ref()?))) else {
        return Err(Cause::CredentialsUnavailable);
    };
    learn::keys(connection, ws, issuer).await?;
    let value = ws.request.head.known(FieldId::Authorization).unwrap_or(b"");
    let verified = &worker.shard.tokens_verified;
    let token = of_scheme(value, "Bearer");
    let verdict = token.map_or(Err(Fault::Refused), |token| issuer.verify(token, verified));
    rule_token(&worker, auth, words, ws, verdict)
}

/// Decides what [`judge`] could not: has a password verified off the workers, waits for keys of tokens, asks the authorizer.
///
/// # Errors
/// Why the request is not let in.
pub async fn wait<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &RouteEntry,
) -> Result<(), Stop> {
    wait_for_credentials(connection, ws, listener, entry).await?;
    match &entry.entrance {
        Some(steps) => Box::pin(authorizer::ask(connection, ws, listener, steps)).await,
        None => Ok(()),
    }
}

async fn wait_for_credentials<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &RouteEntry,
) -> Result<(), Cause> {
    let password = match ws.entrance.open.take() {
        None => return Ok(()),
        Some(Open::Password(password)) => password,
        Some(Open::Key(issuer)) => return wait_for_key(connection, ws, entry, &issuer).await,
    };
    let worker = std::rc::Rc::clone(&connection.worker);
    let verdict = verify(connection, ws, listener, *password).await;
    let ruling = match &verdict {
        Ok(_) => Ruling::Allowed,
        Err(Cause::CredentialsRefused | Cause::CredentialsThrottled) => Ruling::Refused,
        // Nobody waits for a ruling any more.
        Err(cause) if is_client_gone(*cause) => return Err(*cause),
        Err(_) => Ruling::Failed,
    };
    worker.shard.rulings.count(Step::Password, ruling);
    let login = verdict?;
    if let Some(auth) = entry.entrance.as_ref().and_then(|steps| steps.words.auth.as_ref()) {
        let_pass(auth, ws, &login);
    }
    Ok(())
}

async fn verify<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    password: Password,
) -> Result<String, Cause> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let keyring = &worker.shared.keyring;
    let Some((_, hashing)) = keyring.users(&password.name) else { return Err(Cause::CredentialsUnavailable) };
    let name = password.login.name().to_owned();
    if let Some(verdict) = hashing.join(&password.mark) {
        return match await_verdict(connection, ws, verdict).await? {
            Some(true) => Ok(name),
            Some(false) => Err(Cause::CredentialsRefused),
            None => Err(Cause::CredentialsBusy),
        };
    }
    let peer = connection.peer.map(|peer| peer.ip());
    let asked = Asked {
        client: client_address(listener, &ws.request.head, peer),
        host: "",
        method: "",
        path: "",
        query: "",
        fields: &ws.request.head,
        api_key: None,
        client_cert: None,
    };
    let turn = Turn { worker: worker.id, now_ns: worker.clock.turn_ns() };
    // Paid before, and given back where the password is right: who guesses runs out, however many guesses are under way.
    let mut takes = Takes::new();
    if let Err(refusal) = take(keyring.wrong_passwords.list(), &asked, turn, &mut takes) {
        ws.limits.refuse(&refusal, turn.now_ns);
        return Err(Cause::CredentialsThrottled);
    }
    let Some(verdict) = hashing.submit(password.users, password.login, password.mark) else {
        give_back(&mut takes);
        return Err(Cause::CredentialsBusy);
    };
    // Who leaves does not get it back: the guess may have been made.
    match await_verdict(connection, ws, verdict).await? {
        Some(true) => {
            give_back(&mut takes);
            Ok(name)
        }
        Some(false) => Err(Cause::CredentialsRefused),
        None => {
            give_back(&mut takes);
            Err(Cause::CredentialsBusy)
        }
    }
}

/// The verdict; none when it takes too long, or the router ends.
///
/// # Errors
/// The client has left. Its place in the line is passed over.
async fn await_verdict<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    mut verdict: oneshot::Receiver<bool>,
) -> Result<Option<bool>, Cause> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let over_ms = worker.now_ms() + VERDICT_MS;
    let mut half_closed = false;
    poll_fn(|cx| {
        if let Poll::Ready(verdict) = Pin::new(&mut verdict).poll(cx) {
            return Poll::Ready(Ok(verdict.ok()));
        }
        if worker.is_forced() || worker.now_ms() >= over_ms {
            return Poll::Ready(Ok(None));
        }
        let client = &mut connection.stream;
        client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await
}

/// Tells the endpoint who it is, and hides from it how that was shown.
fn let_pass(auth: &Auth, ws: &mut Workspace, id: &str) {
    hide(auth, ws);
    if let Some(name) = &auth.id_header {
        ws.request.head.set(name.as_bytes(), id.as_bytes());
    }
}

fn hide(auth: &Auth, ws: &mut Workspace) {
    let head = &mut ws.request.head;
    if auth.hide_credentials {
        if let Some(keys) = &auth.api_keys {
            head.remove(keys.header.as_bytes());
        }
        if auth.users.is_some() || auth.tokens.is_some() {
            head.remove(FieldId::Authorization.name().as_bytes());
        }
    }
}

/// What a client is told that has to log in: a value of `WWW-Authenticate` for each kind of credentials.
pub fn challenges(entry: Option<&RouteEntry>, note: &EntranceNote) -> Vec<String> {
    let auth = entry.and_then(|entry| entry.entrance.as_ref()).and_then(|steps| steps.words.auth.as_ref());
    let Some(auth) = auth else { return Vec::new() };
    let mut made = Vec::new();
    if auth.users.is_some() {
        made.push(format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm));
    }
    if auth.tokens.is_some() {
        let error = if note.bad_token { ", error=\"invalid_token\"" } else { "" };
        made.push(format!("Bearer realm=\"{}\"{error}", auth.realm));
    }
    if let Some(keys) = &auth.api_keys {
        made.push(format!("ApiKey realm=\"{}\", header=\"{}\"", auth.realm, keys.header));
    }
    made
}
