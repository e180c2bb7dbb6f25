use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
};

use hickory_server::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, rdata::TXT},
};
use tempfile::TempDir;
use tokio::net::UdpSocket;

use super::*;
use crate::{
    control::tests::World,
    model::{Change, EndpointService, PrivateDns, State, VerificationState},
};

/// What the server says to everything.
#[derive(Clone, Copy)]
enum Says {
    TheRecord = 0,
    NoSuchName = 1,
    Failure = 2,
}

/// A DNS server on a socket, and how often it was asked.
struct Server {
    address: SocketAddr,
    says: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(record: String) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        let (says, asked) = (Arc::new(AtomicU8::new(Says::TheRecord as u8)), Arc::new(AtomicUsize::new(0)));
        let (now, count) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let mut answer = Message::from_vec(&buffer[..length]).expect("a question");
                answer.metadata.message_type = MessageType::Response;
                let name = answer.queries[0].name().clone();
                let says = now.load(Ordering::SeqCst);
                if says == Says::TheRecord as u8 {
                    answer.add_answer(Record::from_rdata(name, 60, RData::TXT(TXT::new(vec![record.clone()]))));
                } else if says == Says::NoSuchName as u8 {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                } else {
                    answer.metadata.response_code = ResponseCode::ServFail;
                }
                socket.send_to(&answer.to_vec().expect("an answer"), from).await.expect("a client");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, says, asked }
    }

    fn say(&self, says: Says) {
        self.says.store(says as u8, Ordering::SeqCst);
    }
}

/// A store with a service whose private DNS name is in `state`.
fn store(dir: &TempDir, state: VerificationState) -> (Arc<Store>, PrivateDns) {
    let world = World::published();
    let store = Store::open(dir.path()).expect("a store");
    let all = world.state.records().fold(Change::default(), Change::put);
    let service = world.state.endpoint_services.values().next().expect("a service").clone();
    let name = "api.example.com".parse().expect("a name");
    let private = PrivateDns { state, ..PrivateDns::new(&service.id, name, "1") };
    let service = EndpointService { private_dns: Some(private.clone()), ..service };
    store.commit(&all.put(service)).expect("a commit");
    (Arc::new(store), private)
}

fn state(store: &Store) -> VerificationState {
    let state = store.state();
    state.endpoint_services.values().find_map(|service| service.private_dns.as_ref()).expect("a name").state
}

#[tokio::test]
async fn a_lost_record_turns_a_name_back_and_a_lost_resolver_does_not() {
    let dir = TempDir::new().expect("a directory");
    let (store, private) = store(&dir, VerificationState::Verified);
    let server = Server::start(private.record_value.clone()).await;
    let resolvers = Upstreams::new(vec![server.address]);
    round(&store, &resolvers).await;
    assert_eq!(server.asked.load(Ordering::SeqCst), private.places().len());
    assert_eq!(state(&store), VerificationState::Verified);
    server.say(Says::Failure);
    round(&store, &resolvers).await;
    assert_eq!(state(&store), VerificationState::Verified, "a failure is no answer");
    // Nobody listens there: the kernel says so at once.
    let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("an address");
    round(&store, &Upstreams::new(vec![nobody])).await;
    assert_eq!(state(&store), VerificationState::Verified, "nor is silence");
    server.say(Says::NoSuchName);
    round(&store, &resolvers).await;
    assert_eq!(state(&store), VerificationState::Failed);
    server.say(Says::TheRecord);
    round(&store, &resolvers).await;
    assert_eq!(state(&store), VerificationState::Verified, "it is back");
}

#[tokio::test]
async fn a_name_that_nobody_has_asked_for_is_left_alone() {
    let dir = TempDir::new().expect("a directory");
    let (store, private) = store(&dir, VerificationState::PendingVerification);
    let server = Server::start(private.record_value.clone()).await;
    round(&store, &Upstreams::new(vec![server.address])).await;
    assert_eq!((state(&store), server.asked.load(Ordering::SeqCst)), (VerificationState::PendingVerification, 0));
}

#[tokio::test]
async fn rounds_go_on_until_the_agent_stops() {
    let dir = TempDir::new().expect("a directory");
    let (store, private) = store(&dir, VerificationState::Verified);
    let server = Server::start(private.record_value.clone()).await;
    server.say(Says::NoSuchName);
    let stop = CancellationToken::new();
    let resolvers = Upstreams::new(vec![server.address]);
    let mut states = store.watch();
    let running = tokio::spawn(run(Arc::clone(&store), resolvers, Duration::from_millis(10), stop.clone()));
    let is = |world: &State, wanted| {
        let mut names = world.endpoint_services.values().filter_map(|service| service.private_dns.as_ref());
        names.all(|one| one.state == wanted)
    };
    let turned = states.wait_for(|state| is(state, VerificationState::Failed));
    drop(tokio::time::timeout(Duration::from_secs(20), turned).await.expect("a round").expect("a store"));
    server.say(Says::TheRecord);
    let turned = states.wait_for(|state| is(state, VerificationState::Verified));
    drop(tokio::time::timeout(Duration::from_secs(20), turned).await.expect("another round").expect("a store"));
    stop.cancel();
    running.await.expect("it ends");
}
