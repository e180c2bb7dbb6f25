//! Who is not known, or not the owner, gets nothing and changes nothing.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::api::query::credentials::Credentials;

const FILE: &str = r#"
[[credential]]
access-key-id = "AKIAONE"
secret-access-key = "hush-hush-1"
account = "111111111111"

[[credential]]
access-key-id = "AKIATWO"
secret-access-key = "hush-hush-2"
account = "222222222222"
"#;

/// A rig that trusts nobody.
pub fn strict() -> Rig {
    let mut rig = Rig::new();
    rig.query.trust_loopback = false;
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("credentials");
    std::fs::write(&path, FILE).expect("a file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    rig.query.credentials = Credentials::load(&path).expect("credentials");
    rig
}

/// A request as the owner of a key signs it at a time.
fn signed(key: &str, secret: &str, service: Service, form: &str, time: Timestamp) -> Incoming {
    let body = format!("Version={}&{form}", service.version());
    let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut request = incoming(&body, &[("host", "127.0.0.1:4566"), ("x-amz-date", &stamp)]);
    let parts =
        Signed { method: "POST", path: "/", query: "", headers: request.headers.clone(), body: body.as_bytes() };
    let header = Authorization::header(&parts, key, secret, service.signing_name());
    request.headers.insert("authorization".to_owned(), header);
    request
}

#[test]
fn a_signed_request_counts_and_nothing_like_it() {
    let rig = strict();
    let now = Timestamp::now();
    let form = "Action=CreateVpc&CidrBlock=10.0.0.0/16";
    let make = |secret: &str, time| signed("AKIAONE", secret, Service::Ec2, form, time);
    let count = || rig.query.api.store.state().vpcs.values().filter(|vpc| !vpc.attributes.is_default).count();
    assert_eq!(rig.send(make("hush-hush-1", now)).0, 200);
    assert_eq!(count(), 1);

    let refused = |incoming: Incoming, status: u16, code: &str| {
        let (got, body) = rig.send(incoming);
        assert_eq!((got, text(&body, "Code").as_str()), (status, code), "{body}");
        assert!(!body.contains("hush"), "a secret in {body}");
    };
    refused(make("hush-hush-2", now), 401, "AuthFailure");
    let changed =
        Incoming { body: Ok(Bytes::from("Version=2016-11-15&Action=DescribeVpcs")), ..make("hush-hush-1", now) };
    refused(changed, 401, "AuthFailure");
    let elsewhere = Incoming { query: "DryRun=true".to_owned(), ..make("hush-hush-1", now) };
    refused(elsewhere, 401, "AuthFailure");
    let day = jiff::SignedDuration::from_hours(24);
    refused(make("hush-hush-1", now - day), 403, "RequestExpired");
    refused(make("hush-hush-1", now + day), 403, "RequestExpired");
    refused(signed("AKIATHREE", "hush-hush-1", Service::Ec2, form, now), 401, "AuthFailure");
    assert_eq!(count(), 1, "what is refused makes nothing");

    // The same bytes again, later than a client would send them.
    let overheard = || make("hush-hush-1", now - jiff::SignedDuration::from_secs(60));
    assert_eq!(rig.send(overheard()).0, 200);
    let signature = Authorization::parse(&overheard().headers["authorization"]).expect("a header").signature;
    let mut replays = Replays::default();
    assert!(replays.counts(&signature, now - jiff::SignedDuration::from_secs(30)));
    *rig.query.replays.lock().expect("the replays") = replays;
    refused(overheard(), 403, "RequestExpired");
    assert_eq!(count(), 2);
    // Questions may be repeated.
    let question = || signed("AKIAONE", "hush-hush-1", Service::Ec2, "Action=DescribeVpcs", now);
    assert_eq!((rig.send(question()).0, rig.send(question()).0), (200, 200));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let rig = strict();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Arc::new(rig.query), stop.clone()));
        for (length, wanted) in [(MAX_REQUEST + 1, "413"), (usize::MAX >> 8, "413"), (MAX_REQUEST, "401")] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("the head");
            // The rest of a body that is too long need not arrive.
            let body = vec![b'a'; length.min(MAX_REQUEST + 1)];
            let _ = stream.write_all(&body).await;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&answer).split(' ').nth(1), Some(wanted), "{length} bytes");
        }
        stop.cancel();
        served.await.expect("no panic").expect("no error");
    });
}

/// One of everything, made by an account, by the names of the parameters that name such a thing.
pub fn belongings(rig: &Rig, account: &str) -> Vec<(Vec<&'static str>, String)> {
    let (service, name) = rig.published_by(account);
    let vpc = text(&rig.ec2(account, "Action=DescribeVpcs"), "vpcId");
    let subnet = text(&rig.ec2(account, "Action=DescribeSubnets"), "subnetId");
    let group = format!("Action=CreateSecurityGroup&GroupName=g&GroupDescription=g&VpcId={vpc}");
    let group = text(&rig.ec2(account, &group), "groupId");
    let rule = format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={group}&IpProtocol=tcp&FromPort=1&ToPort=1&CidrIp=0.0.0.0/0"
    );
    let rule = text(&rig.ec2(account, &rule), "securityGroupRuleId");
    let endpoint = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={subnet}&\
         SecurityGroupId.1={group}"
    );
    let endpoint = text(&rig.ec2(account, &endpoint), "vpcEndpointId");
    rig.ec2(account, &format!("Action=CreateTags&ResourceId.1={vpc}&Tag.1.Key=k&Tag.1.Value=v"));
    let interface = text(&rig.ec2(account, "Action=DescribeNetworkInterfaces"), "networkInterfaceId");
    let table = text(&rig.ec2(account, "Action=DescribeRouteTables"), "routeTableId");
    let lb = text(&rig.elb(account, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let listener = text(&rig.elb(account, &format!("Action=DescribeListeners&LoadBalancerArn={lb}")), "ListenerArn");
    let targets = text(&rig.elb(account, "Action=DescribeTargetGroups"), "TargetGroupArn");
    let application = application::made(rig, account);
    vec![
        (vec!["VpcId", "VpcId.1", "ResourceId.1"], vpc),
        (vec!["SubnetId", "SubnetId.1", "Subnets.member.1", "AddSubnetId.1", "RemoveSubnetId.1"], subnet),
        (vec!["GroupId", "GroupId.1", "SecurityGroupId.1", "SecurityGroups.member.1", "AddSecurityGroupId.1"], group),
        (vec!["SecurityGroupRuleId.1"], rule),
        (vec!["ServiceId", "ServiceId.1"], service),
        (vec!["ServiceName", "ServiceName.1"], name),
        (vec!["VpcEndpointId", "VpcEndpointId.1"], endpoint),
        (vec!["NetworkInterfaceId", "NetworkInterfaceId.1"], interface),
        (vec!["RouteTableId", "RouteTableId.1"], table),
        (vec!["RuleArn", "RuleArns.member.1", "RulePriorities.member.1.RuleArn"], application.rule),
        // Of two with a name the later one is the account's own that is asked for.
        (vec!["ListenerArn", "ListenerArns.member.1"], application.listener),
        (vec!["ListenerArn", "ListenerArns.member.1"], listener),
        (vec!["Actions.member.1.TargetGroupArn"], application.group),
        (
            vec![
                "LoadBalancerArn",
                "LoadBalancerArns.member.1",
                "NetworkLoadBalancerArn.1",
                "AddNetworkLoadBalancerArn.1",
            ],
            lb.clone(),
        ),
        (vec!["ResourceArns.member.1"], lb),
        (vec!["TargetGroupArn", "TargetGroupArns.member.1", "DefaultActions.member.1.TargetGroupArn"], targets),
    ]
}

/// What an action may need besides ids, to come so far as to look for what they name.
pub const REST: &[(&str, &str)] = &[
    ("CidrBlock", "172.31.200.0/24"),
    ("Attribute", "enableDnsSupport"),
    ("GroupName", "h"),
    ("GroupDescription", "h"),
    ("VpcEndpointType", "Interface"),
    ("IpProtocol", "tcp"),
    ("FromPort", "2"),
    ("ToPort", "2"),
    ("CidrIp", "0.0.0.0/0"),
    ("AddAllowedPrincipals.1", "*"),
    ("Tag.1.Key", "k"),
    ("Name", "n"),
    ("Type", "network"),
    ("Protocol", "TCP"),
    ("Port", "81"),
    ("TargetType", "ip"),
    ("Targets.member.1.Id", "172.31.9.10"),
    ("DefaultActions.member.1.Type", "forward"),
    ("Attributes.member.1.Key", "deletion_protection.enabled"),
    ("Attributes.member.1.Value", "true"),
    ("Tags.member.1.Key", "k"),
    ("TagKeys.member.1", "k"),
    ("AcceptanceRequired", "true"),
    ("IpAddressType", "ipv4"),
    ("HealthCheckIntervalSeconds", "10"),
    ("Priority", "6"),
    ("RulePriorities.member.1.Priority", "7"),
    ("Actions.member.1.Type", "forward"),
    ("Conditions.member.1.Field", "host-header"),
    ("Conditions.member.1.Values.member.1", "example.com"),
];

fn form(action: &str, parameters: &[(String, String)]) -> String {
    let parameters = parameters.iter().map(|(key, value)| format!("&{key}={value}"));
    format!("Action={action}{}", parameters.collect::<String>())
}

/// Parameters of which each has one value: the last of those that are given.
fn each_once(parameters: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    parameters.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Those of `parameters` that an action reads when `owner` asks; nothing is done.
fn read_by(rig: &Rig, row: &Action, owner: &Owner, mut parameters: Vec<(String, String)>) -> Vec<(String, String)> {
    let run = row.answer;
    let caller = Caller { owner: owner.clone(), identity: Identity::Root, access_key: String::new() };
    loop {
        let params = Params::decode(b"", form(row.name, &parameters).as_bytes()).expect("parameters");
        let (api, handle) = (&rig.query.api, rig.runtime.handle());
        let call = Call { api, caller: &caller, params: &params, action: row.name, dry_run: true, handle };
        // How it ends does not matter here.
        let _ = run(&call);
        let Some(unread) = params.unread() else { return parameters };
        parameters.retain(|(key, _)| key != unread);
    }
}

/// Every action, asked by an account for something of another's in each parameter by itself that names something, with
/// all others its own.
#[test]
fn no_action_reaches_what_is_another_accounts() {
    let rig = Rig::new();
    let (theirs, own) = (belongings(&rig, A), belongings(&rig, B));
    let owner = |account: &str| Owner {
        account: account.parse().expect("an account"),
        region: "us-east-1".parse().expect("a region"),
    };
    let seen = || {
        let state = rig.query.api.store.state();
        crate::model::State { last_vpc_index: None, ..state.seen_by(&owner(A)) }
    };
    let before = seen();
    let mut tried = BTreeSet::new();
    for row in actions::ACTIONS {
        let ids = own.iter().flat_map(|(names, id)| names.iter().map(|name| ((*name).to_owned(), id.clone())));
        let rest = REST.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let parameters = read_by(&rig, row, &owner(B), each_once(ids.chain(rest)));
        for (names, id) in &theirs {
            for name in names {
                let Some(at) = parameters.iter().position(|(key, _)| key == name) else { continue };
                let mut parameters = parameters.clone();
                parameters[at].1.clone_from(id);
                let form = form(row.name, &parameters);
                let (status, body) = rig.ask(B, row.service, &form);
                assert!(status < 500, "{form}: {body}");
                assert_eq!(before, seen(), "{form} changed it");
                // A service's name has its id in it.
                let others = theirs.iter().map(|(_, other)| other).filter(|other| !id.contains(other.as_str()));
                let told: Vec<&String> = others.filter(|other| body.contains(other.as_str())).collect();
                assert!(told.is_empty(), "{form} tells {told:?}: {body}");
                // A batch says what of it failed; all else is refused, but for the deletion of what is not there.
                let nothing_there = row.name.starts_with("Delete") && !body.contains(id.as_str());
                assert!(status != 200 || body.contains("<unsuccessful>") || nothing_there, "{form} found it: {body}");
                tried.insert(row.name);
            }
        }
        // Whoever names nothing is told of nothing of others.
        let (_, body) = rig.ask(B, row.service, &format!("Action={}", row.name));
        assert!(!theirs.iter().any(|(_, id)| body.contains(id.as_str())), "{} tells of others: {body}", row.name);
    }
    assert!(tried.len() > 45, "only {} actions were tried: {tried:?}", tried.len());
}

/// Every action of EC2 with all that is the caller's own: it says what would become of it and does nothing.
#[test]
fn a_dry_run_of_every_action_does_nothing() {
    let rig = Rig::new();
    let own = belongings(&rig, B);
    let owner = Owner { account: B.parse().expect("an account"), region: "us-east-1".parse().expect("a region") };
    let before = rig.query.api.store.state();
    let mut promised = BTreeSet::new();
    for row in actions::ACTIONS.iter().filter(|row| row.service == Service::Ec2) {
        let ids = own.iter().flat_map(|(names, id)| names.iter().map(|name| ((*name).to_owned(), id.clone())));
        let rest = REST.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let parameters = read_by(&rig, row, &owner, each_once(ids.chain(rest)));
        let form = format!("{}&DryRun=true", form(row.name, &parameters));
        let (status, body) = rig.ask(B, row.service, &form);
        assert!((400..500).contains(&status), "{form}: {body}");
        assert_eq!(rig.query.api.store.state(), before, "{form} did something");
        if text(&body, "Code") == "DryRunOperation" {
            assert_eq!(status, 412);
            promised.insert(row.name);
        }
    }
    assert!(promised.len() > 20, "only {} actions came so far: {promised:?}", promised.len());
}
