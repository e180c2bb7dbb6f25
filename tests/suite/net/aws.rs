//! The AWS API, driven by the `aws` command line as its makers publish it, with packets that flow.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    aws::Aws,
    daemon::Agent,
    dns::{Resolver, dig},
    eventually::eventually,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{Scenario, program, text},
    topology::{Hook, Topology, VpcPlan},
};
use serde_json::Value;

use crate::{
    Run, Test,
    common::{PATIENCE, TARGET_PORT, plans},
    dns::SECOND,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "aws_cli_publishes_and_connects_across_accounts", needs: NEEDS, run: Run::EachHook(workflow) },
        Test { name: "aws_answers_fit_the_service_models", needs: NEEDS, run: Run::Once(responses) },
    ]
};

pub const NEEDS: &[Need] = &[
    Need::Program("python3"),
    Need::Program("curl"),
    Need::Program("nginx"),
    Need::Program("dig"),
    Need::Program("unshare"),
    Need::AwsCli,
];

pub const PROVIDER: &str = "111111111111";
pub const CONSUMER: &str = "222222222222";
const ENDPOINT_URL: &str = "http://127.0.0.1:4566";

/// Access keys of two accounts.
const CREDENTIALS: &str = r#"
[[credential]]
access-key-id = "AKIAPROVIDER"
secret-access-key = "provider-secret"
account = "111111111111"

[[credential]]
access-key-id = "AKIACONSUMER"
secret-access-key = "consumer-secret"
account = "222222222222"
"#;

/// An agent that verifies signatures, with `more` arguments, in front of `plans`, and each account's `aws`.
pub fn with_api(
    hook: Hook,
    plans: Vec<VpcPlan>,
    more: &[&str],
    test: impl FnOnce(&mut Scenario, &Aws, &Aws) -> Result<()>,
) -> Result<()> {
    let dir = Directory::new("aws")?;
    let file = dir.path().join("credentials.toml");
    fs::write(&file, CREDENTIALS).context("the credentials")?;
    fs::set_permissions(&file, Permissions::from_mode(0o600)).context("the credentials' mode")?;
    let topology = Topology::build(hook, plans, None)?;
    let file = file.display().to_string();
    let arguments = ["--api", "127.0.0.1:4566", "--allow-reset", "--credentials", &file];
    let arguments = arguments.iter().chain(more).map(|&argument| argument.to_owned()).collect();
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
    let mut scenario = Scenario { cli: agent.cli(), agent, topology };
    let provider = Aws::new(&scenario.topology.lb, ENDPOINT_URL, "AKIAPROVIDER", "provider-secret");
    let consumer = Aws::new(&scenario.topology.lb, ENDPOINT_URL, "AKIACONSUMER", "consumer-secret");
    let result = test(&mut scenario, &provider, &consumer);
    result.with_context(|| scenario.diagnosis())
}

/// The text at a path of keys and indexes, such as `Vpc.VpcId`.
pub fn at<'a>(value: &'a Value, path: &str) -> Result<&'a str> {
    let pointer = format!("/{}", path.replace('.', "/"));
    value.pointer(&pointer).and_then(Value::as_str).with_context(|| format!("no {path} in {value}"))
}

/// Gives the API's VPC `id` the interfaces of the plan's VPC `name`.
pub fn attach(scenario: &Scenario, account: &str, id: &str, name: &str) -> Result<()> {
    let plan = scenario.topology.vpcs.iter().find(|plan| plan.name == name).context("no such VPC")?;
    for port in &plan.ports {
        let hook = scenario.topology.hook.name();
        scenario.cli.run(&format!("port attach {port} --vpc {id} --hook {hook} --account {account}"))?;
    }
    Ok(())
}

/// A VPC with one subnet, and the interfaces that lead to it.
pub fn network(scenario: &Scenario, aws: &Aws, account: &str, vpc: &str) -> Result<(String, String)> {
    let made = aws.run("ec2 create-vpc --cidr-block 10.0.0.0/16")?;
    let id = at(&made, "Vpc.VpcId")?.to_owned();
    let subnet = format!("ec2 create-subnet --vpc-id {id} --cidr-block 10.0.0.0/24 --availability-zone us-east-1a");
    let subnet = at(&aws.run(&subnet)?, "Subnet.SubnetId")?.to_owned();
    attach(scenario, account, &id, vpc)?;
    Ok((id, subnet))
}

/// What a provider publishes and a consumer connects to, step by step as AWS documents it.
fn workflow(hook: Hook) -> Result<()> {
    with_api(hook, plans(2), &[], |scenario, provider, consumer| {
        let mut servers = Vec::new();
        for name in ["server-1", "server-2"] {
            let host = scenario.topology.host(name);
            let address = SocketAddrV4::new(host.address(), TARGET_PORT);
            servers.push(Nginx::start(&host.netns, Directory::new(name)?, address, name)?);
        }
        let wrong = provider.with_secret("wrong").refused("ec2 describe-vpcs")?;
        ensure!(wrong.contains("AuthFailure"), "a wrong secret: {wrong}");
        let wrong = provider.with_secret("wrong").refused("elbv2 describe-load-balancers")?;
        ensure!(wrong.contains("SignatureDoesNotMatch"), "a wrong secret: {wrong}");
        ensure!(at(&consumer.run("sts get-caller-identity")?, "Account")? == CONSUMER, "the wrong account");

        let (vpc, subnet) = network(scenario, provider, PROVIDER, "provider")?;
        let group = provider.run(&format!(
            "elbv2 create-target-group --name web --protocol TCP --port {TARGET_PORT} --target-type ip --vpc-id {vpc} \
             --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2"
        ))?;
        let group = at(&group, "TargetGroups.0.TargetGroupArn")?;
        let (one, two) = (*servers[0].address().ip(), *servers[1].address().ip());
        provider.run(&format!("elbv2 register-targets --target-group-arn {group} --targets Id={one} Id={two}"))?;
        let lb = provider.run(&format!(
            "elbv2 create-load-balancer --name web --type network --scheme internal --subnets {subnet}"
        ))?;
        let lb = at(&lb, "LoadBalancers.0.LoadBalancerArn")?;
        provider.run(&format!("elbv2 wait load-balancer-available --load-balancer-arns {lb}"))?;
        provider.run(&format!(
            "elbv2 create-listener --load-balancer-arn {lb} --protocol TCP --port 80 \
             --default-actions Type=forward,TargetGroupArn={group}"
        ))?;
        let health = format!("elbv2 describe-target-health --target-group-arn {group}");
        eventually("both targets are healthy", Duration::from_secs(20), || {
            let answer = provider.run(&health)?;
            let rows = answer["TargetHealthDescriptions"].as_array().context("no targets")?;
            ensure!(rows.len() == 2 && rows.iter().all(|row| row["TargetHealth"]["State"] == "healthy"), "{answer}");
            Ok(())
        })?;
        provider.run(&format!("elbv2 wait target-in-service --target-group-arn {group}"))?;
        let service = provider.run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --network-load-balancer-arns {lb} --acceptance-required"
        ))?;
        let id = at(&service, "ServiceConfiguration.ServiceId")?;
        let name = at(&service, "ServiceConfiguration.ServiceName")?;

        // For the consumer the service exists once it is permitted.
        let (vpc, subnet) = network(scenario, consumer, CONSUMER, "consumer-b")?;
        let unseen = consumer.refused(&format!("ec2 describe-vpc-endpoint-services --service-names {name}"))?;
        ensure!(unseen.contains("(InvalidServiceName)") && unseen.contains("does not exist"), "{unseen}");
        let principal = format!("arn:aws:iam::{CONSUMER}:root");
        provider.run(&format!(
            "ec2 modify-vpc-endpoint-service-permissions --service-id {id} --add-allowed-principals {principal}"
        ))?;
        consumer.run(&format!("ec2 describe-vpc-endpoint-services --service-names {name}"))?;
        let clients = consumer
            .run(&format!("ec2 create-security-group --group-name clients --description clients --vpc-id {vpc}"))?;
        let clients = at(&clients, "GroupId")?;
        let endpoint = consumer.run(&format!(
            "ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} --service-name {name} \
             --subnet-ids {subnet} --security-group-ids {clients}"
        ))?;
        ensure!(at(&endpoint, "VpcEndpoint.State")? == "pendingAcceptance", "{endpoint}");
        let interface = at(&endpoint, "VpcEndpoint.NetworkInterfaceIds.0")?;
        let dns_name = at(&endpoint, "VpcEndpoint.DnsEntries.0.DnsName")?;
        let endpoint = at(&endpoint, "VpcEndpoint.VpcEndpointId")?;
        let interface =
            consumer.run(&format!("ec2 describe-network-interfaces --network-interface-ids {interface}"))?;
        let address: Ipv4Addr = at(&interface, "NetworkInterfaces.0.PrivateIpAddress")?.parse()?;

        let connections =
            provider.run(&format!("ec2 describe-vpc-endpoint-connections --filters Name=service-id,Values={id}"))?;
        ensure!(at(&connections, "VpcEndpointConnections.0.VpcEndpointOwner")? == CONSUMER, "{connections}");
        let answer =
            |verb: &str| format!("ec2 {verb}-vpc-endpoint-connections --service-id {id} --vpc-endpoint-ids {endpoint}");
        provider.run(&answer("accept"))?;
        let state = |wanted: &str| {
            let answer = consumer.run(&format!("ec2 describe-vpc-endpoints --vpc-endpoint-ids {endpoint}"))?;
            ensure!(at(&answer, "VpcEndpoints.0.State")? == wanted, "{answer}");
            Ok(())
        };
        state("available")?;

        // The group lets nobody in yet; a rule opens the port.
        let client = &scenario.topology.host("client-b").netns.clone();
        let (url, resolver) = (format!("http://{dns_name}/"), Resolver::new(*SECOND.ip())?);
        let fetch = || resolver.curl(client, &[&url]);
        eventually("the name leads to the endpoint", PATIENCE, || {
            let answer = dig(client, SECOND, &["+tries=1", "+time=1", dns_name])?;
            ensure!(answer.addresses()? == [address], "{answer:?}");
            Ok(())
        })?;
        ensure!(fetch().is_err(), "a security group without rules let a client in");
        consumer.run(&format!(
            "ec2 authorize-security-group-ingress --group-id {clients} --protocol tcp --port 80 --cidr 10.0.0.0/16"
        ))?;
        let page = eventually("the page comes through the endpoint", PATIENCE, fetch)?;
        ensure!(page.starts_with("server-"), "{page}");
        let refused = scenario.counter("no_listener")?;
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");

        // Guards, in AWS's words.
        let guarded = provider.run(&format!("ec2 delete-vpc-endpoint-service-configurations --service-ids {id}"))?;
        let message = at(&guarded, "Unsuccessful.0.Error.Message")?;
        ensure!(message == "Service has existing active VPC Endpoint connections!", "{message}");
        let guarded = provider.refused(&format!("elbv2 delete-load-balancer --load-balancer-arn {lb}"))?;
        ensure!(
            guarded.contains("cannot be deleted because it is currently associated with another service"),
            "{guarded}"
        );

        provider.run(&answer("reject"))?;
        state("rejected")?;
        eventually("a rejected endpoint carries nothing", PATIENCE, || {
            ensure!(fetch().is_err(), "the page still comes");
            Ok(())
        })?;
        ensure!(scenario.counter("no_listener")? > refused, "what a rejected endpoint refuses was not counted");

        // A restarted agent knows all of it.
        provider.run(&answer("accept"))?;
        eventually("the page comes again", PATIENCE, fetch)?;
        scenario.agent.stop()?;
        scenario.agent.start_again()?;
        let after = consumer.run(&format!("ec2 describe-vpc-endpoints --vpc-endpoint-ids {endpoint}"))?;
        ensure!(at(&after, "VpcEndpoints.0.State")? == "available", "{after}");
        fetch()?;

        // The host's other users reach neither the socket nor the state, and no secret is in the log.
        for (path, wanted) in [(scenario.agent.socket(), 0o600), (scenario.agent.state_dir(), 0o700)] {
            let mode = fs::metadata(&path).with_context(|| path.display().to_string())?.permissions().mode() & 0o777;
            ensure!(mode == wanted, "{} has mode {mode:o}", path.display());
        }
        let log = scenario.agent.log();
        ensure!(log.contains("CreateVpcEndpoint") && !log.contains("-secret"), "a secret is in the log");

        // Reset leaves nothing, in the kernel neither.
        curl(&scenario.topology.lb, &["--request", "POST", &format!("{ENDPOINT_URL}/_/reset")])?;
        let services = provider.run("ec2 describe-vpc-endpoint-service-configurations")?;
        ensure!(services["ServiceConfigurations"].as_array().is_some_and(Vec::is_empty), "{services}");
        let stats = scenario.cli.run("stats")?;
        ensure!(stats["endpoints"].as_array().is_some_and(Vec::is_empty), "{stats}");
        let defaults = provider.run("ec2 describe-vpcs")?;
        ensure!(at(&defaults, "Vpcs.0.CidrBlock")? == "172.31.0.0/16", "{defaults}");
        text(&defaults["Vpcs"][0], "VpcId").map(drop)
    })
}

/// Every action that answers is asked through botocore, and each raw answer compared with botocore's model of it.
fn responses() -> Result<()> {
    const SCRIPT: &str = include_str!("aws_responses.py");
    with_api(Hook::Auto, Vec::new(), &["--notify", "file:/dev/null"], |_, provider, _| {
        let answer = provider.script(SCRIPT, &[])?;
        let asked: BTreeSet<&str> = answer.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let answering: BTreeSet<String> = ACTIONS.lines().filter_map(answering).collect();
        let left: Vec<&String> = answering.iter().filter(|name| !asked.contains(name.as_str())).collect();
        ensure!(answering.len() > 60 && left.is_empty(), "these actions answer and were not asked: {left:?}");
        Ok(())
    })
}

/// The actions' table, as it is written.
const ACTIONS: &str = include_str!("../../../privatelink-user/src/api/query/actions.rs");

/// The action of a row of [`ACTIONS`] that answers, as `SERVICE:NAME`.
fn answering(line: &str) -> Option<String> {
    let (service, rest) = line.trim().split_once("(\"")?;
    let service = match service {
        "ec2" => "ec2",
        "elb" => "elbv2",
        _ => return None,
    };
    rest.split_once('"').map(|(name, _)| format!("{service}:{name}"))
}
