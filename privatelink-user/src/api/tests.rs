mod openapi;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::StatusCode;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::watch,
    task::JoinHandle,
};

use super::*;
use crate::{
    cli::{CliError, Client},
    control::{
        ControlError, Installed, Limits,
        apply::{ApplyDeclaration, Declaration},
        ports::{AttachPort, DescribePorts},
    },
    model::{Hook, InterfaceName, State, TargetGroupId},
    runtime::{
        Answer, AttachRefusal, Explanation, FlowFilter, FlowRecord, InterfaceFacts, NoRuntime, PortStatus, Question,
        RuntimeError, Stats, TargetHealthReport, Usage,
    },
};
use crate::{dns::upstream::Upstreams, notify::Trust};

/// Longer than anything here takes; a test that waits for more than that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A served API.
struct Served {
    dir: TempDir,
    client: Client,
    store: Arc<Store>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    socket: SocketFile,
}

impl Served {
    fn with_runtime(runtime: Arc<dyn Runtime>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let store = Arc::new(Store::open(&dir.path().join("state")).expect("a store"));
        let (listener, socket) = SocketFile::listen(&socket_in(&dir)).expect("a socket");
        let api = Api {
            store: store.clone(),
            runtime,
            default_owner: Owner::example(),
            domain_resolvers: Upstreams::new(Vec::new()),
            notify: Arc::new(told()),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::new(api), shutdown.clone()));
        Self { client: Client::new(socket_in(&dir)), dir, store, shutdown, task, socket }
    }

    fn new() -> Self {
        Self::with_runtime(Arc::new(NoRuntime))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.task).await.expect("the API ends in time");
        ended.expect("no panic").expect("no error");
        let path = socket_in(&self.dir);
        drop(self.socket);
        assert!(!path.exists(), "the socket's file is left over");
    }

    /// Sends bytes as they are and returns status and body of the answer.
    async fn raw(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(socket_in(&self.dir)).await.expect("a connection");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("an answer in time").expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, body.to_owned())
    }
}

fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("socket")
}

fn create_vpc(name: &str) -> CreateVpc {
    CreateVpc {
        name: name.parse().expect("a name"),
        cidr: "10.0.0.0/16".parse().expect("a CIDR"),
        gateway: None,
        ipv6_cidr: None,
        ipv6_gateway: None,
    }
}

#[tokio::test]
async fn operations_are_committed_and_answered() {
    let served = Served::new();
    let made = served.client.call(&create_vpc("a")).await.expect("a VPC");
    let listed = served.client.call(&DescribeVpcs { vpcs: None }).await.expect("the VPCs");
    assert_eq!(listed, std::slice::from_ref(&made));
    assert!(served.store.state().vpcs.contains_key(&made.id));
    let refused = served.client.call(&DeleteVpc { vpc: "b".into() }).await;
    match refused {
        Err(CliError::Refused(body)) => assert_eq!(body.code, "InvalidVpcID.NotFound"),
        other => panic!("{other:?}"),
    }
    served.client.call(&DeleteVpc { vpc: "a".into() }).await.expect("the VPC is deleted");
    // A client that says nothing does not keep the API from ending.
    let silent = UnixStream::connect(socket_in(&served.dir)).await.expect("a connection");
    served.stop().await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_operations_are_decided_one_after_the_other() {
    let served = Served::new();
    let calls = (0..24).map(|number| {
        let client = served.client.clone();
        // Three clients want each name; two of them find that it is there already.
        tokio::spawn(async move { client.call(&create_vpc(&format!("v{}", number % 8))).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic").expect("a VPC");
    }
    let mut indexes: Vec<u16> = served.store.state().vpcs.values().map(|vpc| vpc.index.get()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (1..=8).collect::<Vec<u16>>());
    served.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_the_same_form() {
    let served = Served::new();
    let json = "content-type: application/json\r\n";
    let cases = [
        ("/v1/Teleport", json, "{}", 404, "InvalidAction", "The action Teleport is not valid for this web service."),
        ("/else", json, "{}", 404, "InvalidAction", "The action /else is not valid for this web service."),
        ("/v1/CreateVpc", json, "{", 400, "ValidationError", "EOF while parsing"),
        ("/v1/CreateVpc", json, r#"{"name": "a"}"#, 400, "ValidationError", "missing field `cidr`"),
        ("/v1/CreateVpc", "", r#"{"name": "a", "cidr": "10.0.0.0/16"}"#, 400, "ValidationError", "application/json"),
        (
            "/v1/CreateVpc",
            json,
            r#"{"name": "a", "cidr": "10.0.0.1/16"}"#,
            400,
            "ValidationError",
            "VPC CIDR '10.0.0.1/16' has host bits set; use 10.0.0.0/16",
        ),
        (
            "/v1/CreateVpc",
            json,
            r#"{"name": "a", "cidr": "10.0.0.0/16", "colour": 1}"#,
            400,
            "ValidationError",
            "unknown field `colour`",
        ),
    ];
    for (path, headers, body, status, code, text) in cases {
        let (found, answer) = served.raw(path, headers, body).await;
        let error: ErrorBody = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path} {body}: {answer}"));
        assert_eq!((found, error.code.as_str()), (status, code), "{path} {body}: {answer}");
        assert!(error.message.contains(text) && !error.hint.is_empty(), "{path} {body}: {answer}");
    }
    assert!(served.store.state().vpcs.is_empty());
    served.stop().await;
}

/// An agent that knows one interface.
struct OneInterface;

impl Runtime for OneInterface {
    fn inspect_interface<'a>(
        &'a self,
        interface: &'a InterfaceName,
        hook: Hook,
        shared: bool,
    ) -> Answer<'a, Result<InterfaceFacts, AttachRefusal>> {
        Box::pin(async move {
            match interface.as_str() {
                "veth0" => NoRuntime.inspect_interface(interface, hook, shared).await,
                "lo" => Err(AttachRefusal::Loopback(interface.clone())),
                _ => Err(AttachRefusal::NotFound(interface.clone())),
            }
        })
    }

    fn limits(&self) -> Limits {
        Limits { listeners: 1, ..Limits::NONE }
    }

    fn installed(&self) -> Option<watch::Receiver<Arc<Installed>>> {
        None
    }

    fn target_health<'a>(&'a self, state: &'a State, group: &'a TargetGroupId) -> Answer<'a, Vec<TargetHealthReport>> {
        NoRuntime.target_health(state, group)
    }

    fn ports(&self) -> Answer<'_, Vec<PortStatus>> {
        NoRuntime.ports()
    }

    fn flows<'a>(&'a self, filter: &'a FlowFilter) -> Answer<'a, Result<Vec<FlowRecord>, RuntimeError>> {
        NoRuntime.flows(filter)
    }

    fn usage<'a>(&'a self, state: &'a State) -> Answer<'a, Result<Usage, RuntimeError>> {
        NoRuntime.usage(state)
    }

    fn stats(&self) -> Answer<'_, Result<Stats, RuntimeError>> {
        Box::pin(std::future::ready(Err(RuntimeError::Tables("no memory".to_owned()))))
    }

    fn explain<'a>(
        &'a self,
        state: &'a State,
        question: &'a Question,
    ) -> Answer<'a, Result<Explanation, RuntimeError>> {
        NoRuntime.explain(state, question)
    }
}

#[tokio::test]
async fn ports_are_accepted_only_if_the_agent_finds_the_interface() {
    let served = Served::with_runtime(Arc::new(OneInterface));
    served.client.call(&create_vpc("a")).await.expect("a VPC");
    let attach = |interface: &str, vpc: &str| AttachPort {
        interface: interface.parse().expect("a name"),
        vpc: vpc.into(),
        hook: Hook::Auto,
        shared: false,
    };
    let code = |result: Result<crate::control::ports::AttachedPort, CliError>| match result {
        Err(CliError::Refused(body)) => body.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(served.client.call(&attach("eth9", "a")).await), "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(code(served.client.call(&attach("lo", "a")).await), "InvalidParameterValue");
    assert_eq!(code(served.client.call(&attach("veth0", "b")).await), "InvalidVpcID.NotFound");
    assert!(served.store.state().ports.is_empty());
    served.client.call(&attach("veth0", "a")).await.expect("a port");
    let ports = served.client.call(&DescribePorts {}).await.expect("the ports");
    assert_eq!(ports.iter().map(|port| port.interface.as_str()).collect::<Vec<_>>(), ["veth0"]);

    // A declaration asks the agent for its new ports, too.
    let declaration: Declaration =
        toml::from_str("[[vpc]]\nname = 'n'\ncidr = '10.0.0.0/16'\n[[port]]\ninterface = 'eth9'\nvpc = 'n'")
            .expect("a declaration");
    let refused = served.client.call(&ApplyDeclaration { declaration, prune: false, dry_run: false }).await;
    assert!(matches!(refused, Err(CliError::Refused(body)) if body.code == "InvalidNetworkInterfaceID.NotFound"));
    assert_eq!(served.store.state().vpcs.len(), 1, "nothing of a refused declaration is there");
    let failed = served.client.call(&DescribeStats {}).await;
    assert!(matches!(failed, Err(CliError::AgentFailed(body)) if body.code == "InternalError"));
    served.stop().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let served = Served::new();
    let declaration: Declaration = toml::from_str("[[vpc]]\nname = 'n'\ncidr = '10.0.0.0/16'").expect("a declaration");
    let mut request = ApplyDeclaration { declaration, prune: false, dry_run: true };
    let planned = served.client.call(&request).await.expect("a plan");
    assert_eq!(planned.steps.len(), 1);
    assert!(served.store.state().vpcs.is_empty());
    request.dry_run = false;
    assert_eq!(served.client.call(&request).await.expect("a plan"), planned);
    assert_eq!(served.store.state().vpcs.len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn targets_that_are_not_registered_are_answered_as_unused() {
    let served = Served::new();
    served.client.call(&create_vpc("a")).await.expect("a VPC");
    let group = serde_json::json!({"name": "web", "vpc": "a", "protocol": "TCP", "port": 80});
    served.client.call(&serde_json::from_value::<CreateTargetGroup>(group).expect("a request")).await.expect("a group");
    let request =
        DescribeTargetHealth { target_group: "web".into(), targets: Some(vec!["10.0.1.1".parse().expect("a target")]) };
    let health = served.client.call(&request).await.expect("its health");
    let found: Vec<_> = health.iter().map(|target| (target.state.as_str(), target.reason.as_deref())).collect();
    assert_eq!(found, [("unused", Some("Target.NotRegistered"))]);
    assert_eq!(health.first().map(|target| target.health_check_port), Some(80));
    served.stop().await;
}

#[tokio::test]
async fn the_socket_is_the_owners_and_a_left_over_one_is_replaced() {
    let served = Served::new();
    let path = socket_in(&served.dir);
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o600);
    assert!(matches!(SocketFile::listen(&path), Err(SocketError::InUse(_))));
    served.stop().await;

    let dir = TempDir::new().expect("a directory");
    let path = socket_in(&dir);
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody answers on"));
    assert!(path.exists());
    SocketFile::listen(&path).expect("the left-over socket is replaced");
    fs::write(&path, "a file").expect("a file");
    assert!(matches!(SocketFile::listen(&path), Err(SocketError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).expect("the file"), "a file");
    assert!(matches!(SocketFile::listen(Path::new("/proc/no/socket")), Err(SocketError::Unusable { .. })));
}

#[tokio::test]
async fn without_an_agent_the_client_says_how_to_start_it() {
    let dir = TempDir::new().expect("a directory");
    let error = Client::new(socket_in(&dir)).call(&DescribeVpcs { vpcs: None }).await.expect_err("no agent");
    assert!(matches!(error, CliError::Unreachable { .. }), "{error}");
}

#[test]
fn every_kind_of_refusal_has_its_status() {
    let status = |error: ControlError| ApiError::from(error).status;
    assert_eq!(status(ControlError::TargetMissing), StatusCode::BAD_REQUEST);
    assert_eq!(status(ControlError::VpcNotFound("x".to_owned())), StatusCode::NOT_FOUND);
    assert_eq!(status(ControlError::DuplicateVpc("x".parse().expect("a name"))), StatusCode::CONFLICT);
}

#[test]
fn random_identifiers_have_their_length_and_differ() {
    let mut ids = RandomIds;
    let (first, second) = (ids.hex(17), ids.hex(17));
    assert!(
        first.len() == 17 && first.bytes().all(|byte| byte.is_ascii_hexdigit()) && first != second,
        "{first} {second}"
    );
}

#[tokio::test]
async fn what_the_datapath_has_no_room_for_is_refused() {
    let served = Served::with_runtime(Arc::new(OneInterface));
    let declaration: Declaration = toml::from_str(
        "[[vpc]]\nname = 'n'\ncidr = '10.0.0.0/16'\n[[target-group]]\nname = 't'\nvpc = 'n'\nport = 80\n\
         [[load-balancer]]\nname = 'l'\nvpc = 'n'\naddresses = ['10.0.0.5']\n\
         [[load-balancer.listener]]\nport = 80\ntarget-group = 't'",
    )
    .expect("a declaration");
    served.client.call(&ApplyDeclaration { declaration, prune: false, dry_run: false }).await.expect("one listener");
    let one_more = serde_json::json!({"load_balancer": "l", "protocol": "TCP", "port": 81, "target_group": "t"});
    let request: CreateListener = serde_json::from_value(one_more).expect("a request");
    let refused = served.client.call(&request).await;
    assert!(matches!(refused, Err(CliError::Refused(body)) if body.code == "TooManyListeners"));
    served.stop().await;
}

/// One target that connection notifications may name.
fn told() -> Targets {
    let allowed = vec!["file:/nonexistent/told".parse().expect("a target")];
    Targets::new(allowed, &Trust("/nonexistent/certificates".into())).expect("targets")
}
