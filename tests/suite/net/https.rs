//! TLS listeners: curl and openssl through an endpoint to servers that speak in clear, or TLS of their own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    aws::Aws,
    daemon::Agent,
    dns::{Dnsmasq, Resolver},
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario, Service, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

use crate::{
    Run, Test,
    aws::{CONSUMER, NEEDS as AWS, PROVIDER, at, network, with_api},
    common::{FIRST, PATIENCE, TARGET_PORT, plans, server, target},
    dns::{SECOND, VERIFIER},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "tls_listener_ends_https_at_the_load_balancer", needs: NEEDS, run: Run::EachHook(https) },
        Test { name: "tls_listener_leads_to_tls_targets_and_proxy_headers", needs: NEEDS, run: Run::Once(targets) },
        Test { name: "tls_listener_is_found_sound_by_testssl", needs: SCANNED, run: Run::Once(scanned) },
        Test { name: "aws_cli_publishes_a_tls_listener_by_a_private_name", needs: WITH_AWS, run: Run::Once(document) },
    ]
};

pub const NEEDS: &[Need] = &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl")];
const SCANNED: &[Need] =
    &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl"), Need::Program("testssl")];
const WITH_AWS: &[Need] =
    &[AWS[0], AWS[1], AWS[2], AWS[3], AWS[4], AWS[5], Need::Program("dnsmasq"), Need::Program("openssl")];

/// Where clients connect to.
pub const TLS: SocketAddrV4 = SocketAddrV4::new(ENDPOINT, 443);
pub const NAME: &str = "www.lab.example";

/// The authority that clients trust.
pub struct Lab {
    pub dir: Directory,
}

impl Lab {
    fn new() -> Result<Self> {
        Ok(Self { dir: Directory::new("lab")? })
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Makes and imports a certificate; its ARN.
    pub fn certificate(&self, scenario: &Scenario, name: &str) -> Result<String> {
        let made = scenario.cli.run(&format!("certificate create-lab {name} --ca {}", self.path("ca")))?;
        text(&made, "id").map(str::to_owned)
    }

    /// The page at `https://NAME/PATH`, whose certificate is validated.
    pub fn page(&self, client: &Netns, name: &str, path: &str) -> Result<String> {
        let (ca, resolve) = (self.path("ca/ca.pem"), format!("{name}:443:{ENDPOINT}"));
        let url = format!("https://{name}/{path}");
        curl(client, &["--max-time", "5", "--cacert", &ca, "--resolve", &resolve, &url])
    }
}

/// A web server in clear, published by TCP on port 80 and by TLS on port 443 to both consumers.
pub fn with_tls(hook: Hook, test: impl FnOnce(&mut Scenario, &Lab, &Nginx) -> Result<()>) -> Result<()> {
    let lab = Lab::new()?;
    let topology = Topology::build(hook, plans(1), None)?;
    let agent = Agent::start_with_arguments(
        &program()?,
        &topology.lb,
        vec!["--access-log".to_owned(), lab.path("access.log")],
    )?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = (|| {
        let service = scenario.publish(&Service::new("web", "provider", vec![FIRST]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        scenario.endpoint(&service, "consumer-b", ENDPOINT)?;
        let certificate = lab.certificate(&scenario, NAME)?;
        let made = scenario.cli.run(&format!(
            "listener create web --protocol TLS --port 443 --target-group web --certificate {certificate}"
        ))?;
        ensure!(text(&made["tls"], "ssl_policy")? == "ELBSecurityPolicy-TLS13-1-2-2021-06", "{made}");
        let dir = Directory::new("web")?;
        let nginx = Nginx::start(&server(&scenario, 1).netns, dir, target(&scenario, 1), "in clear")?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a").netns.clone();
        eventually("the page comes by TLS", Duration::from_secs(20), || lab.page(&client, NAME, ""))?;
        test(&mut scenario, &lab, &nginx)
    })();
    result.with_context(|| scenario.diagnosis())
}

/// `openssl s_client` to the endpoint, which closes at once; what it says.
pub fn s_client(client: &Netns, args: &[&str]) -> Result<String> {
    let mut command = client.command("openssl");
    command.args(["s_client", "-connect", &TLS.to_string()]).args(args);
    let Output { status: _, stdout, stderr } =
        command.stdin(Stdio::null()).output().context("starting openssl s_client")?;
    Ok(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

pub fn says(said: &str, what: &str) -> Result<()> {
    ensure!(said.contains(what), "no '{what}' in {said}");
    Ok(())
}

fn https(hook: Hook) -> Result<()> {
    with_tls(hook, |scenario, lab, nginx| {
        let client = &scenario.topology.host("client-a").netns.clone();
        // Both consumers have the same addresses.
        for host in ["client-a", "client-b"] {
            ensure!(lab.page(&scenario.topology.host(host).netns, NAME, "")? == "in clear");
        }
        let seen = nginx.logged_clients(2)?;
        ensure!(seen.iter().all(|client| *client == NODE.to_string()), "requests from {seen:?}");

        // The certificate follows the server's name; who names none gets the default one.
        let other = lab.certificate(scenario, "*.other.example")?;
        scenario.cli.run(&format!("listener add-certificate web:443 {other}"))?;
        eventually("the other name's certificate is shown", PATIENCE, || lab.page(client, "a.other.example", ""))?;
        ensure!(lab.page(client, "a.b.other.example", "").is_err(), "a wildcard stands for one label");
        says(&s_client(client, &["-noservername"])?, "CN = www.lab.example")?;

        // ALPN: none, then ours before the client's order, and none for what is not shared.
        says(&s_client(client, &["-alpn", "h2,http/1.1"])?, "No ALPN negotiated")?;
        scenario.cli.run("listener modify web:443 --alpn-policy HTTP2Optional")?;
        eventually("ALPN is agreed upon", PATIENCE, || {
            says(&s_client(client, &["-alpn", "h2,http/1.1"])?, "ALPN protocol: http/1.1")
        })?;
        says(&s_client(client, &["-alpn", "spdy/3"])?, "No ALPN negotiated")?;

        // The policy's floor.
        says(&s_client(client, &["-tls1_2"])?, "Cipher is ECDHE-ECDSA-AES")?;
        says(&s_client(client, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])?, "Cipher is (NONE)")?;
        scenario.cli.run("listener modify web:443 --ssl-policy ELBSecurityPolicy-TLS13-1-3-2021-06")?;
        eventually("TLS 1.2 is no longer spoken", PATIENCE, || {
            says(&s_client(client, &["-tls1_2"])?, "Cipher is (NONE)")
        })?;
        says(&s_client(client, &["-tls1_3"])?, "New, TLSv1.3")?;
        let refused = scenario.cli.run("listener modify web:443 --ssl-policy ELBSecurityPolicy-2016-08");
        let refused = format!("{:#}", refused.err().context("TLS 1.0 was accepted")?);
        says(&refused, "asks for TLSv1, which is not offered here")?;

        // Clear HTTP to the TLS port ends at once, and takes nothing with it.
        let since = Instant::now();
        let clear = curl(client, &["--max-time", "5", &format!("http://{TLS}/")]);
        ensure!(clear.is_err() && since.elapsed() < Duration::from_secs(4), "{clear:?} after {:?}", since.elapsed());
        ensure!(curl(client, &[&format!("http://{ENDPOINT}/")])? == "in clear", "port 80 is another listener");

        let told = scenario.cli.run(&format!("explain --vpc consumer-a --from {FIRST} --to {TLS}"))?;
        says(&told.to_string(), "the relay, which ends TLS (ELBSecurityPolicy-TLS13-1-3-2021-06")?;
        let in_use = scenario.cli.run(&format!("certificate delete {other}"));
        says(&format!("{:#}", in_use.err().context("a certificate in use was deleted")?), "currently in use")?;

        // Every connection that showed a client is on record, with the endpoint as its destination.
        eventually("the connections are logged", PATIENCE, || {
            let log = fs::read_to_string(lab.path("access.log")).context("the access log")?;
            let line = log.lines().find(|line| line.contains(" www.lab.example ")).context("no line of the name")?;
            let fields: Vec<&str> = line.split(' ').collect();
            ensure!(fields.len() == 23 && fields[0] == "tls" && fields[1] == "2.0", "{line}");
            ensure!(fields[5].starts_with("10.0.1.10:") && fields[6] == "10.0.0.50:443", "{line}");
            ensure!(fields[15].starts_with("tlsv1") && fields[16] == "x25519", "{line}");
            ensure!(log.contains(" - - - - - - "), "a failed handshake is not logged: {log}");
            Ok(())
        })?;
        let log = scenario.agent.log();
        ensure!(!log.contains("PRIVATE KEY"), "a private key is in the log");
        ensure!(scenario.counter("kernel_refused")? == 0, "the kernel refused a frame");
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// Reads a PROXY header and a request on each connection, answers with what the header says, and counts checks.
fn told(netns: &Netns, address: SocketAddrV4) -> Result<()> {
    let listener = netns.run(|| TcpListener::bind(address))?.context("binding")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(tell(stream)));
        }
    });
    Ok(())
}

fn tell(mut stream: TcpStream) -> Result<()> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u16::from_be_bytes([head[14], head[15]]).into()];
    stream.read_exact(&mut body)?;
    // A check has no client.
    if head[12] != 0x21 {
        return Ok(());
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let address = |at: usize| Ipv4Addr::from([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let port = u16::from_be_bytes([body[10], body[11]]);
    let id = String::from_utf8_lossy(&body[23..45]).into_owned();
    let page = format!("{} to {}:{port} by {id}", address(0), address(4));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len())?;
    Ok(())
}

fn targets() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let cli = &scenario.cli;
        let client = &scenario.topology.host("client-a").netns.clone();
        let host = server(scenario, 1);
        let checks = "--health-check-interval 5 --health-check-timeout 2";
        let tls_only = SocketAddrV4::new(host.address(), 8_443);
        let nginx = Nginx::start_tls(&host.netns, Directory::new("tls")?, tls_only, "by TLS", "TLSv1.3")?;
        cli.run(&format!(
            "target-group create tls --vpc provider --protocol TLS --port 8443 {checks} --health-check-protocol HTTPS"
        ))?;
        cli.run(&format!("target register tls {}", host.address()))?;
        let mixed = cli.run("listener modify web:443 --target-group tls=1 --target-group web=1");
        says(&format!("{:#}", mixed.err().context("mixed groups were accepted")?), "TCP and TLS target groups")?;
        let by_tcp = cli.run("listener modify web:80 --target-group tls");
        says(&format!("{:#}", by_tcp.err().context("TCP to a TLS group was accepted")?), "protocol TLS")?;
        cli.run("listener modify web:443 --target-group tls")?;
        scenario.wait_healthy("tls")?;
        eventually("the page comes from the TLS server", PATIENCE, || says(&lab.page(client, NAME, "")?, "by TLS"))?;
        let requests = nginx.tls_requests(1)?;
        ensure!(requests.iter().any(|line| line.starts_with("TLSv1.3 www.lab.example curl/")), "{requests:?}");

        validated(scenario, lab)?;

        let proxied = SocketAddrV4::new(host.address(), 8_081);
        told(&host.netns, proxied)?;
        cli.run(&format!(
            "target-group create told --vpc provider --protocol TCP --port 8081 {checks} --attribute proxy_protocol_v2.enabled=true"
        ))?;
        cli.run(&format!("target register told {}", host.address()))?;
        cli.run("listener modify web:443 --target-group told")?;
        scenario.wait_healthy("told")?;
        let endpoint = cli.run("endpoint describe consumer-a/10.0.0.50")?;
        let expected = format!("{FIRST} to {TLS} by {}", text(&endpoint, "id")?);
        eventually("the server is told the consumer", PATIENCE, || says(&lab.page(client, NAME, "")?, &expected))?;

        // Without a target the connection is refused as any other.
        cli.run(&format!("target deregister told {}:8081", host.address()))?;
        eventually("there is no target", PATIENCE, || {
            let refused = lab.page(client, NAME, "").err().context("the page still comes")?;
            // It could not connect: a reset, not a timeout.
            says(&format!("{refused:#}"), "curl: (7)")
        })?;
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// The groups `tls`, whose server shows a certificate that nobody vouches for, and `own`, whose server shows one that
/// is in the store, validate what they are shown.
fn validated(scenario: &Scenario, lab: &Lab) -> Result<()> {
    const TRUST: &str = "privatelink.target_certificates.trust";
    let cli = &scenario.cli;
    let client = &scenario.topology.host("client-a").netns.clone();
    let host = server(scenario, 1);
    let refused = |code: &str| {
        eventually(&format!("the relay refuses the server: {code}"), PATIENCE, || {
            ensure!(lab.page(client, NAME, "").is_err(), "the page still comes");
            let log = fs::read_to_string(lab.path("access.log")).context("the access log")?;
            ensure!(log.lines().any(|line| line.ends_with(code)), "{log}");
            Ok(())
        })
    };
    cli.run(&format!("target-group modify tls --attribute {TRUST}=system"))?;
    eventually("the check refuses the server", Duration::from_secs(30), || {
        let told = cli.run("target health tls")?.to_string();
        says(&told, "the target's certificate is not one that the target group believes")
    })?;
    // No target is healthy, so all are used; and the relay sees for itself.
    refused("TargetCertificateInvalid")?;

    let dir = Directory::new("own")?;
    let path = |file: &str| dir.path().join(file).display().to_string();
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).context("a certificate")?;
    fs::write(path("certificate.pem"), own.cert.pem())?;
    fs::write(path("key.pem"), own.signing_key.serialize_pem())?;
    let imported = cli.run(&format!(
        "certificate import --certificate {} --private-key {}",
        path("certificate.pem"),
        path("key.pem")
    ))?;
    let address = SocketAddrV4::new(host.address(), 8_444);
    let _nginx = Nginx::start_tls_with(&host.netns, dir, address, "by its own name", "TLSv1.3")?;
    cli.run(&format!(
        "target-group create own --vpc provider --protocol TLS --port 8444 --health-check-protocol HTTPS \
         --health-check-interval 5 --health-check-timeout 2 --attribute {TRUST}={}",
        text(&imported, "id")?
    ))?;
    cli.run(&format!("target register own {}", host.address()))?;
    cli.run("listener modify web:443 --target-group own")?;
    scenario.wait_healthy("own")?;
    eventually("the server is believed", PATIENCE, || says(&lab.page(client, NAME, "")?, "by its own name"))?;
    let told = cli.run(&format!("explain --vpc consumer-a --from {FIRST} --to {TLS}"))?;
    says(&told.to_string(), "their certificates have to be of the target group's authorities")?;
    cli.run("target-group modify own --attribute privatelink.target_certificates.name=other.lab.example")?;
    refused("TargetCertificateOtherName")?;
    cli.run("listener modify web:443 --target-group tls")?;
    cli.run(&format!("target-group modify tls --attribute {TRUST}=off"))?;
    eventually("nobody is asked any more", PATIENCE, || says(&lab.page(client, NAME, "")?, "by TLS"))
}

/// A server in one account is reached by HTTPS from another, by a name of the provider's that a TXT record has
/// verified.
fn document() -> Result<()> {
    const NAME: &str = "privatelink.shop.example.org";
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 1, 10)]),
    ];
    let verifier = format!("--dns-verification-resolver={VERIFIER}");
    with_api(Hook::Auto, plans, &[&verifier], |scenario, provider, consumer| {
        let host = scenario.topology.host("server");
        let address = SocketAddrV4::new(host.address(), TARGET_PORT);
        let nginx = Nginx::start(&host.netns, Directory::new("httpd")?, address, "a private page")?;
        let dir = Directory::new("pem")?;
        let certificate = certificates(provider, consumer, &dir, NAME)?;

        let (vpc, subnet) = network(scenario, provider, PROVIDER, "provider")?;
        let group = provider.run(&format!(
            "elbv2 create-target-group --name httpd --protocol TCP --port {TARGET_PORT} --target-type ip --vpc-id {vpc} \
             --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2"
        ))?;
        let group = at(&group, "TargetGroups.0.TargetGroupArn")?;
        provider.run(&format!("elbv2 register-targets --target-group-arn {group} --targets Id={}", address.ip()))?;
        let lb = provider.run(&format!(
            "elbv2 create-load-balancer --name httpd --type network --scheme internal --subnets {subnet}"
        ))?;
        let lb = at(&lb, "LoadBalancers.0.LoadBalancerArn")?;
        let create = |policy: &str| {
            format!(
                "elbv2 create-listener --load-balancer-arn {lb} --protocol TLS --port 443 --certificates \
                 CertificateArn={certificate} --ssl-policy {policy} --alpn-policy HTTP2Optional --default-actions \
                 Type=forward,TargetGroupArn={group}"
            )
        };
        let weak = provider.refused(&create("ELBSecurityPolicy-2016-08"))?;
        says(&weak, "(SSLPolicyNotFound)")?;
        says(&weak, "asks for TLSv1, which is not offered here")?;
        let listener = provider.run(&create("ELBSecurityPolicy-TLS13-1-2-2021-06"))?;
        ensure!(at(&listener, "Listeners.0.Certificates.0.CertificateArn")? == certificate, "{listener}");
        ensure!(at(&listener, "Listeners.0.AlpnPolicy.0")? == "HTTP2Optional", "{listener}");
        let used = provider.run(&format!("acm describe-certificate --certificate-arn {certificate}"))?;
        ensure!(at(&used, "Certificate.InUseBy.0")?.contains(":listener/net/httpd/"), "{used}");
        says(&provider.refused(&format!("acm delete-certificate --certificate-arn {certificate}"))?, "ResourceInUse")?;

        let made = provider.run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --network-load-balancer-arns {lb} --acceptance-required \
             --private-dns-name {NAME}"
        ))?;
        let (service, name) =
            (at(&made, "ServiceConfiguration.ServiceId")?, at(&made, "ServiceConfiguration.ServiceName")?);
        let value = at(&made, "ServiceConfiguration.PrivateDnsNameConfiguration.Value")?;
        let records = ["--local=/org/".to_owned(), format!("--txt-record={NAME},{value}")];
        let _dns = Dnsmasq::start(&scenario.topology.lb, VERIFIER, &records)?;
        provider.run(&format!("ec2 start-vpc-endpoint-service-private-dns-verification --service-id {service}"))?;
        provider.run(&format!(
            "ec2 modify-vpc-endpoint-service-permissions --service-id {service} --add-allowed-principals arn:aws:iam::{CONSUMER}:root"
        ))?;

        let (vpc, subnet) = network(scenario, consumer, CONSUMER, "consumer")?;
        consumer.run(&format!("ec2 modify-vpc-attribute --vpc-id {vpc} --enable-dns-hostnames"))?;
        let group =
            consumer.run(&format!("ec2 create-security-group --group-name web --description web --vpc-id {vpc}"))?;
        let group = at(&group, "GroupId")?;
        consumer.run(&format!(
            "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 443 --cidr 10.0.1.0/24"
        ))?;
        let endpoint = consumer.run(&format!(
            "ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} --service-name {name} --subnet-ids {subnet} \
             --security-group-ids {group}"
        ))?;
        let endpoint = at(&endpoint, "VpcEndpoint.VpcEndpointId")?;
        provider.run(&format!(
            "ec2 accept-vpc-endpoint-connections --service-id {service} --vpc-endpoint-ids {endpoint}"
        ))?;
        consumer.run(&format!("ec2 modify-vpc-endpoint --vpc-endpoint-id {endpoint} --private-dns-enabled"))?;

        let client = &scenario.topology.host("client").netns;
        let resolver = Resolver::new(*SECOND.ip())?;
        let ca = dir.path().join("certificate.pem").display().to_string();
        let page = eventually("the page comes by HTTPS and its own name", Duration::from_secs(20), || {
            resolver.curl(client, &["--cacert", &ca, &format!("https://{NAME}/")])
        })?;
        ensure!(page == "a private page", "{page}");
        ensure!(resolver.curl(client, &[&format!("http://{NAME}/")]).is_err(), "http:// is not served");
        let from = nginx.logged_clients(1)?;
        ensure!(from.iter().all(|client| client.starts_with("10.0.0.")), "requests from {from:?}");
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// Imports a certificate, looks at it as its owner and as another account, and replaces it; its ARN.
fn certificates(provider: &Aws, consumer: &Aws, dir: &Directory, name: &str) -> Result<String> {
    let path = |file: &str| dir.path().join(file).display().to_string();
    let make = || -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
        openssl.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
        openssl.args(["-keyout", &path("key.pem"), "-out", &path("certificate.pem")]);
        let made = openssl.stdin(Stdio::null()).output().context("starting openssl")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    };
    let import = format!(
        "acm import-certificate --certificate fileb://{} --private-key fileb://{}",
        path("certificate.pem"),
        path("key.pem")
    );
    make()?;
    let arn = at(&provider.run(&import)?, "CertificateArn")?.to_owned();
    make()?;
    let again = provider.run(&format!("{import} --certificate-arn {arn}"))?;
    ensure!(at(&again, "CertificateArn")? == arn, "{again}");
    let described = provider.run(&format!("acm describe-certificate --certificate-arn {arn}"))?;
    for (member, wanted) in
        [("DomainName", name), ("KeyAlgorithm", "EC_prime256v1"), ("Status", "ISSUED"), ("Type", "IMPORTED")]
    {
        ensure!(at(&described, &format!("Certificate.{member}"))? == wanted, "{described}");
    }
    let listed = provider.run("acm list-certificates")?;
    ensure!(at(&listed, "CertificateSummaryList.0.CertificateArn")? == arn, "{listed}");
    let public = provider.run(&format!("acm get-certificate --certificate-arn {arn}"))?;
    ensure!(at(&public, "Certificate")? == fs::read_to_string(path("certificate.pem"))?, "{public}");
    // Another account sees nothing of it, and a key of another certificate is refused.
    says(
        &consumer.refused(&format!("acm describe-certificate --certificate-arn {arn}"))?,
        "ResourceNotFoundException",
    )?;
    ensure!(consumer.run("acm list-certificates")?["CertificateSummaryList"].as_array().is_some_and(Vec::is_empty));
    let old = path("certificate.old");
    fs::copy(path("certificate.pem"), &old)?;
    make()?;
    let mixed = format!("acm import-certificate --certificate fileb://{old} --private-key fileb://{}", path("key.pem"));
    says(&provider.refused(&mixed)?, "does not belong to the certificate")?;
    provider.run(&format!("{import} --certificate-arn {arn}"))?;
    let unsigned = provider.with_secret("wrong").refused("acm list-certificates")?;
    says(&unsigned, "InvalidSignatureException")?;
    Ok(arn)
}

/// What testssl.sh finds wrong with the default policy: nothing.
fn scanned() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let client = &scenario.topology.host("client-a").netns;
        let mut command = client.command("testssl");
        command.args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--sneaky"]);
        // Protocols, forward secrecy, the server's preference, vulnerabilities.
        command.args(["-p", "-f", "-P", "-U", &TLS.to_string()]).env("CA_BUNDLES_PATH", lab.path("ca"));
        let Output { stdout, .. } = command.stdin(Stdio::null()).output().context("starting testssl")?;
        let said = String::from_utf8_lossy(&stdout).into_owned();
        for old in ["SSLv2", "SSLv3", "TLS 1 ", "TLS 1.1"] {
            let line = said.lines().find(|line| line.trim_start().starts_with(old)).with_context(|| said.clone())?;
            ensure!(line.contains("not offered"), "{line}");
        }
        for new in ["TLS 1.2", "TLS 1.3"] {
            let line = said.lines().find(|line| line.trim_start().starts_with(new)).with_context(|| said.clone())?;
            ensure!(line.contains("offered (OK)"), "{line}");
        }
        let wrong: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("VULNERABLE") || line.contains("NOT ok"))
            .filter(|line| !line.contains("not vulnerable"))
            .collect();
        ensure!(said.contains("Heartbleed") && wrong.is_empty(), "{wrong:?}");
        Ok(())
    })
}
