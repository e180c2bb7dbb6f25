//! The server's edge: sockets, messages, records.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    proto::{
        op::{Edns, Message, Metadata, OpCode, Query, ResponseCode},
        rr::{
            DNSClass, Name, RData, Record, RecordType,
            rdata::{A, AAAA, SOA},
        },
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    directory::{Directory, Found, TTL, in_turn},
    upstream::{Transport, Upstreams},
    zones::{self, Healthy},
};
use crate::{
    model::{VpcId, by_family},
    store::Store,
};

/// The longest answer by UDP: it crosses every network in one packet (RFC 9715 section 3.1 has 1,400 and less).
const LONGEST_DATAGRAM: u16 = 1_232;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that wait for one TCP connection.
const ANSWERS_WAITING: usize = 16;

/// A UDP and a TCP socket of one address.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds both to `address`; to port 0, they may get different ports.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { udp: UdpSocket::bind(address).await?, tcp: TcpListener::bind(address).await? })
    }

    /// The ports: UDP, TCP.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A host outside every VPC.
    Outside,
    Vpc(VpcId),
}

/// Says who asks, by where a question comes from.
pub trait Askers: Send + Sync {
    /// Who asks from `source`; none if nobody may have it.
    fn asker(&self, source: IpAddr) -> Option<Asker>;

    /// The address that the asker itself has in its VPC, if that can be seen.
    fn address(&self, source: SocketAddr, transport: Transport) -> Option<IpAddr>;
}

/// Whoever asks at addresses of the host is outside every VPC.
pub struct AnybodyOutside;

impl Askers for AnybodyOutside {
    fn asker(&self, _: IpAddr) -> Option<Asker> {
        Some(Asker::Outside)
    }

    fn address(&self, _: SocketAddr, _: Transport) -> Option<IpAddr> {
        None
    }
}

/// What all servers of an agent answer from.
#[derive(Debug)]
pub struct Names {
    store: Arc<Store>,
    healthy: watch::Receiver<Arc<Healthy>>,
    upstreams: Upstreams,
    /// Of the last state that was asked about.
    directory: Mutex<Arc<Directory>>,
    turn: AtomicUsize,
}

impl Names {
    /// `healthy` says which targets are; until it says of any, all zones are served.
    pub fn new(store: Arc<Store>, healthy: watch::Receiver<Arc<Healthy>>, upstreams: Vec<SocketAddr>) -> Self {
        let present = healthy.borrow().clone();
        let directory = Mutex::new(Arc::new(Directory::new(store.state(), present)));
        Self { store, healthy, upstreams: Upstreams::new(upstreams), directory, turn: AtomicUsize::new(0) }
    }

    fn directory(&self) -> Arc<Directory> {
        let (state, healthy) = (self.store.state(), self.healthy.borrow().clone());
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        if !directory.is_of(&state, &healthy) {
            *directory = Arc::new(Directory::new(state, healthy));
        }
        directory.clone()
    }
}

/// An answer, before it is a message.
#[derive(Debug, Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    truncated: bool,
    authentic_data: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn error(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn ours(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Self {
        Self { code, authoritative: true, answers, authorities, ..Self::default() }
    }

    fn of(message: Message) -> Self {
        let Message { metadata, answers, authorities, additionals, .. } = message;
        Self {
            code: metadata.response_code,
            authoritative: metadata.authoritative,
            truncated: metadata.truncation,
            authentic_data: metadata.authentic_data,
            answers,
            authorities,
            additionals,
        }
    }
}

struct Handler {
    names: Arc<Names>,
    askers: Box<dyn Askers>,
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::error(ResponseCode::NotImp);
        }
        let [query] = request.queries.queries() else { return Reply::error(ResponseCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Reply::error(ResponseCode::BADVERS);
        }
        let Some(asker) = self.askers.asker(request.src().ip()) else { return Reply::error(ResponseCode::Refused) };
        let vpc = match &asker {
            Asker::Outside => None,
            Asker::Vpc(vpc) => Some(vpc),
        };
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if transfer || !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Reply::error(ResponseCode::Refused);
        }
        let question = query.original();
        let name = question.name().to_lowercase().to_ascii();
        let directory = self.names.directory();
        match directory.find(name.strip_suffix('.').unwrap_or(&name), vpc) {
            Found::Elsewhere => self.elsewhere(request, question).await,
            Found::Missing { zone } => Reply::ours(ResponseCode::NXDomain, Vec::new(), soa(&zone)),
            Found::Empty { zone } => {
                let soa = soa(&zone);
                let asked = matches!(question.query_type(), RecordType::SOA | RecordType::ANY);
                match soa.first().is_some_and(|record| asked && record.name == question.name().to_lowercase()) {
                    true => Reply::ours(ResponseCode::NoError, soa, Vec::new()),
                    false => Reply::ours(ResponseCode::NoError, Vec::new(), soa),
                }
            }
            Found::Addresses { zone, addresses } => self.addresses(question, &zone, addresses),
            Found::Nodes { zone, nodes, routing } => {
                let own = || directory.zone_of(vpc?, self.askers.address(request.src(), transport(request))?);
                let nodes = zones::routed(nodes, routing, rand::random_range(0..100), own);
                self.addresses(question, &zone, nodes)
            }
        }
    }

    /// What a name that has these addresses and no other records is answered by.
    fn addresses(&self, question: &Query, zone: &str, addresses: Vec<IpAddr>) -> Reply {
        let (four, six) = by_family(addresses);
        let four = four.into_iter().map(|address| RData::A(A(address))).collect();
        let six = six.into_iter().map(|address| RData::AAAA(AAAA(address))).collect();
        let found: Vec<RData> = match question.query_type() {
            RecordType::A => four,
            RecordType::AAAA => six,
            RecordType::ANY => [four, six].concat(),
            _ => Vec::new(),
        };
        if found.is_empty() {
            return Reply::ours(ResponseCode::NoError, Vec::new(), soa(zone));
        }
        let turn = self.names.turn.fetch_add(1, Ordering::Relaxed);
        let record = |data| Record::from_rdata(question.name().clone(), TTL, data);
        let records = in_turn(found, turn).into_iter().map(record).collect();
        Reply::ours(ResponseCode::NoError, records, Vec::new())
    }

    /// Somebody else's name.
    async fn elsewhere(&self, request: &Request, query: &Query) -> Reply {
        if self.names.upstreams.is_empty() {
            return Reply::error(ResponseCode::Refused);
        }
        let mut question = Message::query();
        question.add_query(query.clone());
        question.metadata.recursion_desired = request.metadata.recursion_desired;
        question.metadata.checking_disabled = request.metadata.checking_disabled;
        question.metadata.authentic_data = request.metadata.authentic_data;
        if let Some(edns) = &request.edns {
            let mut own = Edns::new();
            own.set_max_payload(LONGEST_DATAGRAM).set_dnssec_ok(edns.flags().dnssec_ok);
            question.set_edns(own);
        }
        match self.names.upstreams.ask(&question, transport(request)).await {
            Ok(answer) => Reply::of(answer),
            Err(error) => {
                tracing::debug!(%error, name = %query.name(), "no answer from upstream");
                Reply::error(ResponseCode::ServFail)
            }
        }
    }
}

fn transport(request: &Request) -> Transport {
    match request.protocol() {
        Protocol::Udp => Transport::Udp,
        _ => Transport::Tcp,
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let Reply { code, authoritative, truncated, authentic_data, answers, authorities, additionals } =
            self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        metadata.authoritative = authoritative;
        metadata.truncation = truncated;
        metadata.authentic_data = authentic_data;
        metadata.recursion_available = !self.names.upstreams.is_empty();
        // Whoever sent an OPT record gets one (RFC 6891 section 6.1.1).
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(request.max_payload().min(LONGEST_DATAGRAM));
            edns.set_dnssec_ok(asked.flags().dnssec_ok).set_rcode_high(code.high());
            edns
        });
        let message = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let message = message.build(metadata, &answers, &authorities, &[], &additionals);
        response.send_response(message).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "an answer was not sent");
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: Default::default() })
        })
    }
}

/// The zone's SOA record, which says how long a name's absence may be kept (RFC 2308 section 3). None if `zone` is no
/// name.
fn soa(zone: &str) -> Vec<Record> {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    let record = || {
        let data = SOA::new(name(zone)?, name(&format!("hostmaster.{zone}"))?, 1, 7_200, 900, 1_209_600, TTL);
        Some(Record::from_rdata(name(zone)?, TTL, RData::SOA(data)))
    };
    record().into_iter().collect()
}

/// Answers on `sockets` until `stop`.
pub async fn serve(names: Arc<Names>, askers: Box<dyn Askers>, sockets: Vec<Sockets>, stop: CancellationToken) {
    let mut server = Server::new(Handler { names, askers });
    for Sockets { udp, tcp } in sockets {
        server.register_socket(udp);
        server.register_listener(tcp, IDLE, ANSWERS_WAITING);
    }
    tokio::select! {
        () = stop.cancelled() => {}
        ended = server.block_until_done() => {
            if let Err(error) = ended {
                tracing::error!(%error, "the DNS server ended");
            }
        }
    }
}

#[cfg(test)]
mod tests;
