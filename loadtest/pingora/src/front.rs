//! The seam to pingora: its one required hook, and the default modules left out.

use async_trait::async_trait;
use ekiden_config::model::Address;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::{ProxyHttp, Session};

use crate::route::Router;

/// The app that pingora drives: each request goes where the table says.
pub(crate) struct Front {
    router: Router,
}

impl Front {
    /// An app on this router's decisions.
    pub(crate) fn new(router: Router) -> Self {
        Self { router }
    }
}

#[async_trait]
impl ProxyHttp for Front {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    /// No modules: the default makes one for compression for each request, which then does nothing.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, session: &mut Session, _ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let address = self
            .router
            .endpoint(session.req_header())
            .map_err(|refused| Error::new(ErrorType::HTTPStatus(refused.status())))?;
        Ok(Box::new(match address {
            Address::Tcp(address) => HttpPeer::new(*address, false, String::new()),
            Address::Unix(path) => HttpPeer::new_uds(path, false, String::new())?,
        }))
    }
}
