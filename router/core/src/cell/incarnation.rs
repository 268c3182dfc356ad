//! Which endpoint a cell is the state of. Owns no text of its own: the names are the cluster's, and the rest is the model's.

use std::sync::Arc;

use ekiden_config::model::{Address, Endpoint};
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use super::evidence::Trip;

/// A cluster by its names, with what all of its endpoints go by; one for all of them.
#[derive(Debug)]
pub struct ClusterPlace {
    app: AppName,
    cluster: ClusterName,
    trip: Trip,
}

impl ClusterPlace {
    /// A cluster of an app.
    pub fn new(app: AppName, cluster: ClusterName) -> Self {
        Self { app, cluster, trip: Trip::default() }
    }
}

/// What makes an endpoint the same one: the same id at another address, or of another release, is a new endpoint that starts fresh
/// and shares no connection with the old one. Weight, zone and marks are no part of it.
#[derive(Debug, Clone)]
pub struct Incarnation {
    place: Arc<ClusterPlace>,
    /// The endpoint as it was first: weight, zone and marks may be others by now.
    endpoint: Arc<Endpoint>,
}

impl Incarnation {
    /// Of an endpoint in a cluster.
    pub fn new(place: Arc<ClusterPlace>, endpoint: Arc<Endpoint>) -> Self {
        Self { place, endpoint }
    }

    /// Whether an endpoint of the same cluster and id is this one still.
    pub fn is(&self, endpoint: &Endpoint) -> bool {
        self.endpoint.address == endpoint.address
            && self.endpoint.release() == endpoint.release()
            && self.endpoint.dns_name() == endpoint.dns_name()
    }

    /// The app and the cluster.
    pub fn place(&self) -> (&AppName, &ClusterName) {
        (&self.place.app, &self.place.cluster)
    }

    /// When its failures in a row are too many.
    pub(super) fn trip(&self) -> &Trip {
        &self.place.trip
    }

    /// Its id in the cluster.
    pub fn id(&self) -> &EndpointId {
        &self.endpoint.id
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.endpoint.address
    }

    /// The DNS name that the address was resolved from: TLS asks for it.
    pub fn dns_name(&self) -> Option<&str> {
        self.endpoint.dns_name().map(|name| &**name)
    }
}

impl PartialEq for Incarnation {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.id() == other.id() && self.is(&other.endpoint)
    }
}

impl Eq for Incarnation {}
