//! Whatever comes in by UDP or TCP: it is answered in DNS or dropped, and nobody is told another VPC's names.

use std::net::Ipv4Addr;

use hickory_server::{
    net::{NetError, runtime::TokioTime},
    proto::serialize::binary::{BinDecodable as _, BinEncoder},
    zone_handler::MessageResponse,
};
use proptest::prelude::*;

use super::*;
use crate::{
    control::tests::World,
    model::{Change, Record as Resource},
    testing::fuzz,
};

/// Keeps what would be sent.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Sent {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::new();
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes)).expect("an answer that can be written");
        *self.0.lock().expect("the bytes") = bytes;
        Ok(info)
    }
}

const INSIDE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 10);
const PRIVATE: &str = "api.shop.example.com";

/// Two VPCs that ask, each from an address of its own, and the host. No client can be seen.
struct Known {
    consumer: VpcId,
    provider: VpcId,
}

impl Askers for Known {
    fn asker(&self, source: IpAddr) -> Option<Asker> {
        match source {
            IpAddr::V4(INSIDE) => Some(Asker::Vpc(self.consumer.clone())),
            IpAddr::V4(OTHER) => Some(Asker::Vpc(self.provider.clone())),
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Asker::Outside),
            _ => None,
        }
    }

    fn address(&self, _: SocketAddr, _: Transport) -> Option<IpAddr> {
        None
    }
}

/// A server whose VPC `consumer` asks from [`INSIDE`] and has an endpoint with a private name, and who else may ask.
struct Rig {
    handler: Handler,
    runtime: tokio::runtime::Runtime,
    names: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::TempDir::new().expect("a directory");
        let store = Arc::new(Store::open(dir.path()).expect("a store"));
        let mut world = World::published();
        for endpoint in world.state.endpoints.values_mut() {
            endpoint.private_dns = Some(PRIVATE.parse().expect("a name"));
        }
        let state = &world.state;
        let change = state.records().fold(Change::default(), |change, record: Resource| change.put(record));
        store.commit(&change).expect("a state");
        let consumer = state.endpoints.values().next().expect("an endpoint").vpc.clone();
        let provider = state.load_balancers.values().next().expect("a load balancer").vpc.clone();
        let lbs = state.load_balancers.keys().map(|id| state.service_domain.load_balancer(id));
        let names = state.endpoints.values().flat_map(|endpoint| state.endpoint_names(endpoint)).chain(lbs);
        let names: Vec<String> = names.chain([PRIVATE.to_owned()]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answers_from = Arc::new(Names::new(store, watch::Sender::default().subscribe(), Vec::new()));
        let handler = Handler { names: answers_from, askers: Box::new(Known { consumer, provider }) };
        Self { handler, runtime, names, _dir: dir }
    }

    /// What is answered to `bytes` from `source`; none if they are no request.
    fn answer(&self, bytes: &[u8], source: Ipv4Addr, protocol: Protocol) -> Option<Vec<u8>> {
        let request = Request::from_bytes(bytes.to_vec(), SocketAddr::from((source, 4_000)), protocol).ok()?;
        let sent = Sent::default();
        self.runtime.block_on(self.handler.handle_request::<_, TokioTime>(&request, sent.clone()));
        let bytes = sent.0.lock().expect("the bytes").clone();
        Some(bytes)
    }
}

fn sources() -> impl Strategy<Value = Ipv4Addr> {
    prop::sample::select(vec![INSIDE, OTHER, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1)])
}

#[test]
fn any_bytes_are_answered_or_dropped() {
    let rig = Rig::new();
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    fuzz((bytes, sources(), any::<bool>()), |(bytes, source, tcp)| {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        if let Some(answer) = rig.answer(&bytes, source, protocol) {
            let message = Message::from_bytes(&answer);
            prop_assert!(message.is_ok(), "{:?} is no answer to {:?}", answer, bytes);
        }
        Ok(())
    });
}

/// Questions by name, with some of the message's bytes changed.
#[test]
fn nearly_right_questions_are_answered_and_tell_nobody_anothers_names() {
    let rig = Rig::new();
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::SOA, RecordType::TXT, RecordType::ANY, RecordType::AXFR];
    let questions = (
        prop::sample::select(rig.names.clone()),
        prop::sample::select(kinds.to_vec()),
        "[a-zA-Z0-9.*_-]{0,12}",
        any::<(bool, bool, bool)>(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        sources(),
    );
    fuzz(questions, |(name, kind, prefix, (below, edns, upper), changes, source)| {
        let name = if below { format!("{prefix}.{name}") } else { name };
        let name = if upper { name.to_ascii_uppercase() } else { name };
        let Ok(asked) = Name::from_ascii(format!("{}.", name.trim_matches('.'))) else { return Ok(()) };
        let mut question = Message::query();
        question.add_query(Query::query(asked, kind));
        if edns {
            question.set_edns(Edns::new());
        }
        let mut bytes = question.to_vec().expect("a message");
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let Some(answer) = rig.answer(&bytes, source, Protocol::Udp) else { return Ok(()) };
        let answer = Message::from_bytes(&answer);
        prop_assert!(answer.is_ok(), "no answer to {:?}", bytes);
        let answer = answer.expect("it was looked at");
        prop_assert_eq!(answer.metadata.id.to_be_bytes(), [bytes[0], bytes[1]]);
        // The private name has an address in its own VPC only, whatever else was changed.
        for record in &answer.answers {
            let private = record.name.to_lowercase().to_ascii().trim_end_matches('.') == PRIVATE;
            prop_assert!(!private || source == INSIDE, "{} was told to {}", record.name, source);
        }
        if source == Ipv4Addr::new(192, 0, 2, 1) {
            prop_assert!(answer.answers.is_empty(), "a stranger was told {:?}", answer.answers);
        }
        Ok(())
    });
}

#[test]
fn the_fuzzed_server_knows_its_names() {
    let rig = Rig::new();
    let ask = |name: &str, source| {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), RecordType::A));
        let answer = rig.answer(&question.to_vec().expect("a message"), source, Protocol::Udp).expect("an answer");
        Message::from_bytes(&answer).expect("a message").answers.len()
    };
    for name in &rig.names {
        assert_eq!(ask(name, INSIDE), 1, "{name}");
    }
    assert_eq!((ask(PRIVATE, OTHER), ask(PRIVATE, Ipv4Addr::LOCALHOST)), (0, 0));
}
