//! One request from its first byte to its record: read the head, match, act, relay, record.
//!
//! An exchange owns one downstream and its legs, all polled in the connection's task. Everything it needs lives in a
//! [`Workspace`] that is taken when bytes arrive and given back when the connection goes idle, so that steady
//! requests allocate nothing. Does not accept, pool or publish.

pub mod affinity;
pub mod answer;
pub mod authorizer;
pub mod backend;
pub mod cors;
pub mod downstream;
pub mod entrance;
pub mod evidence;
pub mod faults;
pub mod forward;
pub mod grpc;
pub mod hold;
pub mod hops;
pub mod learn;
pub mod leg;
pub mod limit;
pub mod load;
pub mod mirror;
pub mod out;
pub mod overload;
pub mod pace;
pub mod proxy_out;
pub mod raw;
pub mod relay;
pub mod request_out;
pub mod response_out;
pub mod run;
pub mod secure;
pub mod shard;
pub mod splice;
pub mod stage;
pub mod toll;
pub mod trace;
pub mod tries;
pub mod tunnel;
pub mod upgrade;
pub mod web;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ekiden_core::overload::caps::InFlight;
use ekiden_core::table::RouteEntry;

use crate::buffer::Buffer;
use crate::clock::Moment;
use crate::exchange::cors::CorsNote;
use crate::exchange::entrance::EntranceNote;
use crate::exchange::grpc::Call;
use crate::exchange::leg::Leg;
use crate::exchange::limit::LimitNotes;
use crate::exchange::out::Out;
use crate::exchange::pace::Pace;
use crate::exchange::shard::ShardKey;
use crate::exchange::trace::Trace;
use crate::exchange::tries::Tries;
use crate::exchange::upgrade::WebSocketKey;
use crate::exchange::web::Web;
use crate::tls::Session;
use crate::wire::request::RequestHead;
use crate::wire::response::ResponseHead;
use crate::worker::ListenerRef;

/// Everything one exchange works on; reused from request to request.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Bytes from the client.
    pub client_in: Buffer,
    /// Bytes to the client.
    pub client_out: Out,
    /// The request.
    pub request: RequestHead,
    /// The response.
    pub response: ResponseHead,
    /// The upstream connection.
    pub leg: Leg,
    /// The client's time to send the body.
    pub body_pace: Pace,
    /// The client's time to read the response.
    pub read_pace: Pace,
    /// Path in normal form, as forwarded.
    pub path: String,
    /// Path in loose form, when it has one.
    pub loose: String,
    /// Scratch for rewriting.
    pub scratch: String,
    /// The shard key, where the cluster has shards.
    pub shard: ShardKey,
    /// The mark that the client carries, where the cluster has affinity.
    pub affinity: Option<Box<affinity::Note>>,
    /// The copy that is made of the request, where its route has a mirror.
    pub mirror: Option<Box<mirror::Capture>>,
    /// Endpoints tried for this request.
    pub tried: Vec<u32>,
    /// What the tries have in common.
    pub tries: Tries,
    /// The protocol to be switched to: its place in the route's list. None when the request asks for none that the route knows.
    pub upgrade: Option<u8>,
    /// The key of a WebSocket handshake that the router makes for a client of HTTP/2.
    pub websocket_key: Option<WebSocketKey>,
    /// The call of gRPC that the request is.
    pub call: Option<Call>,
    /// How that call is turned, where it came as gRPC-web and the route turns it.
    pub web: Option<Box<Web>>,
    /// The matched route, held to the end of the exchange whatever the table does.
    pub route: Option<Arc<RouteEntry>>,
    /// Whose pages may read the response.
    pub cors: CorsNote,
    /// Who asks, as far as the route wants to know.
    pub entrance: EntranceNote,
    /// What rate limits have to say.
    pub limits: LimitNotes,
    /// The request's place in its app's account, where the app has caps.
    pub permit: Option<InFlight>,
    /// What the record will say.
    pub trace: Trace,
    /// The listener that accepted the connection.
    pub listener: Option<Rc<ListenerRef>>,
    /// The client's address; none on a unix socket.
    pub peer: Option<SocketAddr>,
    /// The TLS session of the connection; none on a plain one.
    pub session: Option<Arc<Session>>,
}

impl Workspace {
    /// Makes ready for the next request. Called before anything of it is taken.
    pub fn begin(&mut self) {
        self.request.clear();
        self.client_out.clear();
        self.upgrade = None;
        self.cors.clear();
        self.entrance.clear();
        self.websocket_key = None;
        (self.call, self.web) = (None, None);
        (self.affinity, self.mirror) = (None, None);
        (self.body_pace, self.read_pace) = Default::default();
    }

    /// Gives back the memory that is not needed any more once the head of the response has been written. What comes after this
    /// request makes it anew.
    pub fn slim(&mut self) {
        self.client_out.slim();
        self.leg.output.slim();
        self.request.slim();
        self.response.head.slim();
        (self.path, self.loose, self.scratch) = Default::default();
    }

    /// When the leg that serves the request had all of it: of two legs the one that took over.
    pub fn leg_began(&self) -> Option<Moment> {
        self.tries.second_began.or(self.trace.sent_at)
    }

    /// The next endpoint's time begins with its own request.
    pub fn forget_leg_times(&mut self) {
        (self.trace.sent_at, self.trace.first_byte_at, self.tries.second_began) = (None, None, None);
    }
}

/// What becomes of the client connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// There was no request; wait for one.
    Idle,
    /// Serve the next request.
    Keep,
    /// Close; nothing of the client's is unread.
    Close,
    /// Close so that the client can still read what was sent, though it may be sending.
    Linger,
    /// Close so that the client cannot take what it got for complete.
    Abort,
}
