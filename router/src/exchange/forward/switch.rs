//! Which connection is opened for a request: one that others share too, one of its own, or one that can switch to the protocol that
//! the request asks for.
//!
//! On HTTP/2 it is WebSocket alone, by extended CONNECT (RFC 8441), where the endpoint says that it takes that. A cluster of protocol
//! `auto` has HTTP/1 otherwise; one of `h2` has nothing, and never gets a plain GET instead. Does not turn the handshake
//! (`http2::endpoint` does).

use std::time::Duration;

use ekiden_config::model::Protocol;
use ekiden_core::cluster::EndpointEntry;
use ekiden_core::outcome::Cause;

use super::open::{Opened, Patience, With, connect, open};
use super::{Forward, breaker};
use crate::exchange::leg::Home;
use crate::exchange::{Workspace, upgrade};
use crate::http2::endpoint::EndpointStream;
use crate::stream::Stream;

impl Forward<'_> {
    /// Whether a stream can carry the request: any one that asks for no other protocol.
    #[inline]
    pub(super) fn suits(&self, ws: &Workspace, stream: &EndpointStream) -> bool {
        ws.upgrade.is_none() || self.can_switch(ws, stream)
    }

    #[cold]
    fn can_switch(&self, ws: &Workspace, stream: &EndpointStream) -> bool {
        let protocol = ws.upgrade.and_then(|place| self.entry.route.upgrades.protocol(place));
        let is_websocket = protocol.is_some_and(|protocol| upgrade::is_websocket(protocol));
        // A handshake without a right key is the endpoint's to refuse, over HTTP/1.
        is_websocket && stream.takes_extended() && upgrade::has_key(&ws.request)
    }

    /// Whether it is a handshake without a right key, and there is no HTTP/1 over which an endpoint could refuse it.
    #[cold]
    fn lacks_key(&self, ws: &Workspace) -> bool {
        let protocol = ws.upgrade.and_then(|place| self.entry.route.upgrades.protocol(place));
        self.cluster.cluster.policy.protocol == Protocol::Http2
            && protocol.is_some_and(|protocol| upgrade::is_websocket(protocol))
            && !upgrade::has_key(&ws.request)
    }

    /// Opens a connection that suits the request within a time, or has a stream of one that others open.
    pub(super) async fn open_for(
        &self,
        ws: &mut Workspace,
        endpoint: &EndpointEntry,
        home: &mut Home,
        (header, patience): (Option<&[u8]>, &Patience),
    ) -> Opened {
        let worker = &self.worker;
        if ws.upgrade.is_some() && self.lacks_key(ws) {
            return Err(Cause::WebsocketKeyInvalid);
        }
        let may_share = match self.cluster.cluster.policy.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => !endpoint.cell.chose_http1(),
        };
        // As for a pooled one: what is replayed has a connection of its own.
        let shares = may_share && !self.replayed && header.is_none();
        let began = worker.clock.read();
        let with = With { header, connected: home.connected.take(), http1_only: false };
        let opened = connect(worker, &self.cluster, endpoint, patience, with, shares).await;
        if ws.upgrade.is_none() {
            return opened;
        }
        let waited = Duration::from_micros(worker.clock.read().us_since(began));
        Box::pin(self.switchable(ws, endpoint, home, (opened, header), (patience, waited))).await
    }

    /// The connection that was opened for a request, or one of HTTP/1 in its place where that cannot switch.
    ///
    /// # Errors
    /// [`Cause::UpgradeUnsupported`] where the cluster speaks HTTP/2 alone; or there is no such connection.
    #[cold]
    async fn switchable(
        &self,
        ws: &mut Workspace,
        endpoint: &EndpointEntry,
        home: &mut Home,
        (opened, header): (Opened, Option<&[u8]>),
        (patience, waited): (&Patience, Duration),
    ) -> Opened {
        match &opened {
            Ok((Stream::Http2(stream), _)) if !self.can_switch(ws, stream) => {}
            _ => return opened,
        }
        drop(opened);
        let policy = &self.cluster.cluster.policy;
        if policy.protocol != Protocol::Auto {
            return Err(Cause::UpgradeUnsupported);
        }
        if let Some(bounds) = &policy.breaker {
            // The place that was taken is that of the connection which others share.
            breaker::take_connection(bounds, &self.cluster, endpoint, home)
                .map_err(|bound| breaker::refuse(ws, bound))?;
        }
        let with = With { header, connected: home.connected.take(), http1_only: true };
        open(&self.worker, &self.cluster, endpoint, patience.after(waited), with).await
    }
}
