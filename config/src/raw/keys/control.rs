//! Keys of the control plane: its API, fleets, stores and sources. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{DAY, HOUR, NAME};
use crate::raw::declare::tables;
use crate::raw::read::Spanned;

tables! {
    /// Where and how the control API is served. Needs a restart.
    RawControl as "[control]" {
        /// `IP:PORT`, `unix:/path` or `off`. With a listener of role inbound or outbound the default is a unix
        /// socket in the run directory.
        address: Spanned<String> = "\"127.0.0.1:9902\"" in 1, 256;
        /// File that holds the bearer token of the API, or lines of `ROLE NAME TOKEN` with the roles `read`, `deploy` and `admin`; relative to
        /// this file.
        token_file: Spanned<String> = "no token" in 1, 4096;
        /// Host names, beside loopback, under which the API answers.
        hosts: Vec<Spanned<String>> = "none" in 0, 64;
        /// What DNS, and what is pushed, may take away at once. More is kept until `ekiden confirm` or for a while.
        removals: RawRemovals = "see the keys";
        /// Silence of control's loop after which it is stuck: `ekiden run` puts a fresh one in its place beside workers that serve
        /// on, and `ekiden control` ends so that another one may lead.
        stuck_after: Duration = "\"30s\"" in 2_000, HOUR;
    }

    /// What sources of placements may take away at once. Needs a restart.
    RawRemovals as "removals" {
        /// Percent of a source's endpoints that may go at once, or one by one within a minute; one may always go. 100 keeps nothing.
        share: u64 = "50" in 1, 100;
        /// How long more than that is kept.
        hold: Duration = "\"5m\"" in 1_000, DAY;
    }

    /// The link between `ekiden control` and its routers, in the file of either; `ekiden run` does not look at it. Needs a restart.
    RawFleet as "[fleet]" {
        /// Control: where routers connect, `IP:PORT` or `unix:/path`.
        listen: Spanned<String> = "\"127.0.0.1:9903\"" in 1, 256;
        /// The certificate that this side shows the other one: an `[identity.NAME]` of this file. Without one the link is plain.
        identity: Spanned<String> = "none" in 1, NAME;
        /// Who vouches for the other side: a `[ca.NAME]` of this file. Goes with `identity`.
        ca: Spanned<String> = "none" in 1, NAME;
        /// Router: the name that the certificate of control must have.
        server_name: Spanned<String> = "the host of `--control`" in 1, 255;
        /// Control: names (DNS or URI) of certificates that routers may show, such as \"spiffe://example.org/router/edge-1\".
        routers: Vec<Spanned<String>> = "every name that `ca` vouches for" in 1, 10_000;
        /// Router: its name in the fleet, where the link is plain; over TLS it has that of its certificate.
        name: Spanned<String> = "the name of the machine" in 1, NAME;
        /// A plain link may leave the machine: everybody on the way can read and change what is sent.
        insecure: bool = "false";
        /// Control: which routers get which apps; with any, a router that none names is not let in. Needs `identity` and `ca`.
        subscription: Vec<RawSubscription> = "all routers get all apps" in 1, 10_000;
    }

    /// Apps for some routers: their documents, endpoints and hosts, and nothing of others. Needs a restart.
    RawSubscription as "[[fleet.subscription]]" {
        /// Names of certificates (DNS or URI); one that ends in `*` stands for all that begin so.
        routers: Vec<Spanned<String>> = "required" in 1, 10_000;
        /// Names of apps, or `"*"` for all. A router that several name gets the apps of all of them.
        apps: Vec<Spanned<String>> = "required" in 1, 10_000;
    }

    /// Where control keeps what was asked of it, when several processes share it. Not with a Procfile. Needs a restart.
    RawEtcd as "[etcd]" {
        /// Members, such as \"https://10.0.0.5:2379\"; they are tried in turn.
        endpoints: Vec<Spanned<String>> = "required" in 1, 16;
        /// What all keys begin with. Processes of one prefix share all they are told, and one of them leads.
        prefix: Spanned<String> = "\"/ekiden\"" in 2, 256;
        /// Who vouches for etcd: a `[ca.NAME]` of this file. `https` needs it.
        ca: Spanned<String> = "none" in 1, NAME;
        /// The certificate that is shown to etcd: an `[identity.NAME]` of this file.
        identity: Spanned<String> = "none" in 1, NAME;
        /// A user of etcd. A certificate with a common name is then refused by etcd's gateway: `identity` needs one without.
        user: Spanned<String> = "none" in 1, 256;
        /// File with the password; relative to this file. Goes with `user`.
        password_file: Spanned<String> = "none" in 1, 4096;
        /// How long a leader that is not heard of leads: another one follows it after this time. It says so three times in it.
        lease: Duration = "\"10s\"" in 2_000, 60_000;
        /// Name of this process among those that may lead.
        name: Spanned<String> = "the name of the machine and the process id" in 1, NAME;
        /// Where the API of this process is for others, as told to clients of those that do not lead; such as \"https://control-1.internal\".
        api: Spanned<String> = "where it is served" in 1, 512;
        /// `http` may leave the machine: everybody on the way can read and change what is stored.
        insecure: bool = "false";
    }

    /// An etcd that holds endpoints, one a key, which control follows; apart from that of `[etcd]`. Needs a restart.
    RawDiscovery as "[discovery.NAME]" {
        /// Members, such as \"https://10.0.0.5:2379\"; they are tried in turn.
        endpoints: Vec<Spanned<String>> = "required" in 1, 16;
        /// Who vouches for it: a `[ca.NAME]` of this file. `https` needs it.
        ca: Spanned<String> = "none" in 1, NAME;
        /// The certificate that is shown to it: an `[identity.NAME]` of this file.
        identity: Spanned<String> = "none" in 1, NAME;
        /// A user of it.
        user: Spanned<String> = "none" in 1, 256;
        /// File with the password; relative to this file. Goes with `user`.
        password_file: Spanned<String> = "none" in 1, 4096;
        /// `http` may leave the machine: everybody on the way can read and change what endpoints there are.
        insecure: bool = "false";
        /// Apps whose clusters may name it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }
}
