//! Answers one query: from the zone, from the host's resolvers, or not at all.
//!
//! Owns who may be told what. The sockets call [`Answerer::answer`] with the bytes that came, and send
//! the bytes that it returns. Nothing that comes in is trusted to be a query.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, LowerName, Name, Record, RecordType};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{Catalog, MessageResponse, MessageResponseBuilder};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::counters::{Outcome, Tally};
use crate::forward::Forwarder;
use crate::listen::Audience;
use crate::zone::Zone;

/// Largest answer by UDP, whatever the asker takes: it passes every path without fragments, and a
/// forged source draws no more than this.
pub(crate) const MAX_UDP_BYTES: u16 = 1232;

/// What an asker takes by UDP that does not say so (RFC 1035 §4.2.1).
const PLAIN_UDP_BYTES: u16 = 512;

/// Queries that wait for the host's resolvers at a time: fewer than may be at work in all, so that
/// resolvers that do not answer leave the mesh's own names answered.
const MAX_FORWARDS: usize = 256;

/// What answers need.
pub(crate) struct Answerer {
    zone: watch::Receiver<Arc<Zone>>,
    forwarder: Forwarder,
    forwards: Semaphore,
    internal: LowerName,
    tally: Arc<Tally>,
}

/// What is to be done with a query that can be read.
enum Way {
    Zone(Arc<Zone>),
    Forward(Arc<Zone>),
    Say(ResponseCode, Outcome),
}

impl Answerer {
    pub(crate) fn new(
        zone: watch::Receiver<Arc<Zone>>,
        forwarder: Forwarder,
        tally: Arc<Tally>,
    ) -> Self {
        // A name of one valid label cannot fail; the root would keep more back, never less.
        let internal = Name::from_ascii("internal.").unwrap_or_else(|_| Name::root());
        let forwards = Semaphore::new(MAX_FORWARDS);
        Self { zone, forwarder, forwards, internal: LowerName::new(&internal), tally }
    }

    /// The answer to a message that came from `from`; `None` when there is to be none. Counts what
    /// became of it.
    pub(crate) async fn answer(
        &self,
        message: Vec<u8>,
        from: SocketAddr,
        protocol: Protocol,
        audience: Audience,
    ) -> Option<Vec<u8>> {
        let request = Request::from_bytes(message, from, protocol).ok();
        let Some(request) = request.filter(is_question) else {
            self.tally.add(Outcome::Malformed);
            return None;
        };
        let reply = Reply::new(&request, protocol, audience);
        let outcome = match self.way(&request, audience) {
            Way::Zone(zone) => {
                ask(&zone.catalog, &request, &reply).await;
                Outcome::Zone
            }
            Way::Forward(zone) => self.forward(&zone, &request, &reply).await,
            Way::Say(code, outcome) => {
                reply.say(&request, code).await;
                outcome
            }
        };
        let bytes = reply.bytes.get().cloned();
        self.tally.add(if bytes.is_some() { outcome } else { Outcome::Unsent });
        bytes
    }

    fn way(&self, request: &Request, audience: Audience) -> Way {
        let refused = Way::Say(ResponseCode::Refused, Outcome::Refused);
        let Ok(info) = request.request_info() else { return refused };
        if request.metadata.op_code != OpCode::Query {
            return Way::Say(ResponseCode::NotImp, Outcome::Refused);
        }
        let transfer = matches!(info.query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if info.query.query_class() != DNSClass::IN || transfer {
            return refused;
        }
        let (zone, name) = (self.zone.borrow().clone(), info.query.name());
        if zone.catalog.find(name).is_some() {
            return Way::Zone(zone);
        }
        if audience == Audience::Peers || !info.src.ip().is_loopback() {
            return refused;
        }
        if self.internal.zone_of(name) {
            return Way::Say(ResponseCode::NXDomain, Outcome::Kept);
        }
        Way::Forward(zone)
    }

    async fn forward(&self, zone: &Zone, request: &Request, reply: &Reply) -> Outcome {
        let catalog = self.forwarder.catalog(&zone.prefixes, Instant::now());
        let Some(catalog) = catalog else {
            reply.say(request, ResponseCode::ServFail).await;
            return Outcome::NoUpstream;
        };
        let Ok(_permit) = self.forwards.try_acquire() else {
            reply.say(request, ResponseCode::ServFail).await;
            return Outcome::ForwarderBusy;
        };
        ask(&catalog, request, reply).await;
        Outcome::Forwarded
    }
}

/// Whether a message asks one thing. A response is never answered: two servers would go on for ever.
fn is_question(request: &Request) -> bool {
    request.metadata.message_type == MessageType::Query && request.request_info().is_ok()
}

async fn ask(catalog: &Catalog, request: &Request, reply: &Reply) {
    catalog.handle_request::<_, TokioTime>(request, reply.clone()).await;
}

/// Takes the answer from hickory-server.
#[derive(Clone)]
struct Reply {
    bytes: Arc<OnceLock<Vec<u8>>>,
    max_bytes: u16,
    recursion: bool,
}

impl Reply {
    fn new(request: &Request, protocol: Protocol, audience: Audience) -> Self {
        let taken = request.edns.as_ref().map_or(PLAIN_UDP_BYTES, |edns| edns.max_payload());
        let max_bytes = match protocol {
            Protocol::Udp => taken.clamp(PLAIN_UDP_BYTES, MAX_UDP_BYTES),
            _ => u16::MAX,
        };
        Self { bytes: Arc::default(), max_bytes, recursion: audience == Audience::Host }
    }

    /// Answers with a code and nothing else.
    async fn say(&self, request: &Request, code: ResponseCode) {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        let response = MessageResponseBuilder::from_message_request(request);
        let sent = self.clone().send_response(response.build_no_records(metadata)).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "cannot write an answer");
        }
    }
}

#[async_trait]
impl ResponseHandler for Reply {
    async fn send_response<'a>(
        &mut self,
        mut response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        response.metadata_mut().recursion_available = self.recursion;
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP_BYTES));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.max_bytes);
        let info = response.destructive_emit(&mut encoder)?;
        // The first answer counts; there is one for each request.
        let _ = self.bytes.set(bytes);
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Member, Mesh};
    use crate::{Counters, ZoneKey};
    use proptest::prelude::*;
    use std::cell::LazyCell;
    use std::time::SystemTime;

    /// A query for the AAAA records of `edge-a.lab.internal`, with EDNS (RFC 6891).
    const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\
        \x06edge-a\x03lab\x08internal\0\0\x1c\0\x01\0\0\x29\xff\xff\0\0\x80\0\0\0";

    thread_local! {
        static ANSWERER: LazyCell<Answerer> = LazyCell::new(|| {
            let mesh = Mesh {
                name: "lab".into(),
                server: "edge-a".into(),
                prefixes: vec!["fd42:1:2::/48".parse().unwrap()],
            };
            let addresses = vec!["fd42:1:2::1".parse().unwrap()];
            let members = [Member { name: "edge-a".into(), addresses }];
            let key = ZoneKey::generate().unwrap();
            let zone = Zone::build(&mesh, &members, 1, &key, SystemTime::now()).unwrap();
            let (_, zone) = watch::channel(Arc::new(zone));
            Answerer::new(zone, Forwarder::new(vec![], vec![]), Arc::default())
        });
    }

    fn total(counters: Counters) -> u64 {
        counters.iter().map(|(_, count)| count).sum()
    }

    /// The answer to a message, and that it is counted once and within its bound.
    fn answer(message: &[u8], protocol: Protocol, audience: Audience) -> Option<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        ANSWERER.with(|answerer| {
            let before = total(answerer.tally.read());
            let from = "127.0.0.1:5353".parse().unwrap();
            let answer = answerer.answer(message.to_vec(), from, protocol, audience);
            let answer = runtime.block_on(answer);
            assert_eq!(total(answerer.tally.read()), before + 1);
            let len = answer.as_ref().map_or(0, Vec::len);
            assert!(protocol != Protocol::Udp || len <= usize::from(MAX_UDP_BYTES), "{len}");
            answer
        })
    }

    #[test]
    fn the_query_is_one() {
        let answer = answer(QUERY, Protocol::Udp, Audience::Peers).unwrap();
        assert_eq!(answer[..2], QUERY[..2]);
        assert_eq!(answer[3] & 0x0f, 0, "no error");
        assert!(answer.len() > 100);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_counted_and_bounded(
            rubbish in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((0..QUERY.len(), any::<u8>()), 0..4),
            tcp: bool,
            host: bool,
        ) {
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let audience = if host { Audience::Host } else { Audience::Peers };
            answer(&rubbish, protocol, audience);
            let mut altered = QUERY.to_vec();
            changes.into_iter().for_each(|(at, byte)| altered[at] = byte);
            let answered = answer(&altered, protocol, audience);
            // What is answered is a response (QR), and to this query.
            prop_assert!(answered.is_none_or(|bytes| bytes[2] & 0x80 != 0 && bytes[..2] == altered[..2]));
        }
    }
}
