//! What the host's resolver in these tests knows: `example.org`.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::rr::rdata::{A, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};

pub struct Handler {
    catalog: Catalog,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Handler {
    pub fn new(asked: Arc<Mutex<Vec<String>>>) -> Self {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        // The root: it answers whatever it is asked, so that everything that leaves the host shows.
        let mut zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
            Name::root(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
            None,
        );
        let soa = SOA::new(name("ns."), name("x."), 1, 60, 60, 60, 60);
        let records = [
            Record::from_rdata(Name::root(), 60, RData::SOA(soa)),
            Record::from_rdata(
                name("www.example.org."),
                60,
                RData::A(A(Ipv4Addr::new(198, 51, 100, 7))),
            ),
        ];
        assert!(records.into_iter().all(|record| zone.upsert_mut(record, 1)));
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&Name::root()), vec![Arc::new(zone)]);
        Self { catalog, asked }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        reply: R,
    ) -> ResponseInfo {
        let asked = request.request_info().unwrap().query.to_string();
        self.asked.lock().unwrap().push(asked);
        self.catalog.handle_request::<R, T>(request, reply).await
    }
}
