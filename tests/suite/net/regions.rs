//! A service of one region, reached from another: made by the `aws` command line, with packets that flow.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    dns::{Resolver, dig},
    eventually::eventually,
    programs::{Directory, Nginx},
    topology::Hook,
};

use crate::{
    Run, Test,
    aws::{CONSUMER, NEEDS, PROVIDER, at, network, with_api},
    common::{PATIENCE, TARGET_PORT, plans},
    dns::SECOND,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "aws_cli_connects_from_another_region", needs: NEEDS, run: Run::EachHook(across) }];

/// The consumer's region; the provider is in us-east-1.
const REGION: &str = "eu-west-1";

fn across(hook: Hook) -> Result<()> {
    with_api(hook, plans(1), &[], |scenario, provider, consumer| {
        let host = scenario.topology.host("server-1");
        let target = SocketAddrV4::new(host.address(), TARGET_PORT);
        let _server = Nginx::start(&host.netns, Directory::new("server-1")?, target, "server-1")?;
        let (vpc, subnet) = network(scenario, provider, PROVIDER, "provider")?;
        let group = provider.run(&format!(
            "elbv2 create-target-group --name web --protocol TCP --port {TARGET_PORT} --target-type ip --vpc-id {vpc} \
             --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2"
        ))?;
        let group = at(&group, "TargetGroups.0.TargetGroupArn")?;
        provider.run(&format!("elbv2 register-targets --target-group-arn {group} --targets Id={}", target.ip()))?;
        let lb = provider.run(&format!(
            "elbv2 create-load-balancer --name web --type network --scheme internal --subnets {subnet}"
        ))?;
        let lb = at(&lb, "LoadBalancers.0.LoadBalancerArn")?;
        provider.run(&format!(
            "elbv2 create-listener --load-balancer-arn {lb} --protocol TCP --port 80 \
             --default-actions Type=forward,TargetGroupArn={group}"
        ))?;
        provider.run(&format!("elbv2 wait target-in-service --target-group-arn {group}"))?;
        let service = provider.run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --network-load-balancer-arns {lb} --acceptance-required"
        ))?;
        let id = at(&service, "ServiceConfiguration.ServiceId")?;
        let name = at(&service, "ServiceConfiguration.ServiceName")?;
        provider.run(&format!(
            "ec2 modify-vpc-endpoint-service-permissions --service-id {id} \
             --add-allowed-principals arn:aws:iam::{CONSUMER}:root"
        ))?;

        // The consumer's VPC in its region, with the client's interface.
        let made = consumer.run(&format!("--region {REGION} ec2 create-vpc --cidr-block 10.0.0.0/16"))?;
        let vpc = at(&made, "Vpc.VpcId")?;
        let made = consumer.run(&format!(
            "--region {REGION} ec2 create-subnet --vpc-id {vpc} --cidr-block 10.0.0.0/24 --availability-zone {REGION}c"
        ))?;
        let subnet = at(&made, "Subnet.SubnetId")?;
        let plan = scenario.topology.vpcs.iter().find(|plan| plan.name == "consumer-a").context("no such VPC")?;
        for port in &plan.ports {
            let hook = scenario.topology.hook.name();
            scenario
                .cli
                .run(&format!("port attach {port} --vpc {vpc} --hook {hook} --account {CONSUMER} --region {REGION}"))?;
        }

        // Until the region is supported, the service does not exist there.
        let find = format!(
            "--region {REGION} ec2 describe-vpc-endpoint-services --service-names {name} --service-region us-east-1"
        );
        let create = format!(
            "--region {REGION} ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} \
             --service-name {name} --service-region us-east-1 --subnet-ids {subnet}"
        );
        for line in [&find, &create] {
            let refused = consumer.refused(line)?;
            ensure!(refused.contains("(InvalidServiceName)") && refused.contains("does not exist"), "{refused}");
        }
        let modify = format!("ec2 modify-vpc-endpoint-service-configuration --service-id {id}");
        provider.run(&format!("{modify} --add-supported-regions {REGION}"))?;
        let shown = provider.run(&format!("ec2 describe-vpc-endpoint-service-configurations --service-ids {id}"))?;
        let shown = &shown["ServiceConfigurations"][0]["SupportedRegions"];
        ensure!(shown[0]["Region"] == "us-east-1" && shown[1]["Region"] == REGION, "{shown}");
        let found = consumer.run(&find)?;
        ensure!(at(&found, "ServiceDetails.0.ServiceRegion")? == "us-east-1", "{found}");
        let endpoint = consumer.run(&create)?;
        ensure!(at(&endpoint, "VpcEndpoint.State")? == "pendingAcceptance", "{endpoint}");
        ensure!(at(&endpoint, "VpcEndpoint.ServiceRegion")? == "us-east-1", "{endpoint}");
        let regional = at(&endpoint, "VpcEndpoint.DnsEntries.0.DnsName")?;
        let zonal = at(&endpoint, "VpcEndpoint.DnsEntries.1.DnsName")?;
        ensure!(regional.ends_with(&format!(".{id}.us-east-1.vpce.amazonaws.com")), "{endpoint}");
        ensure!(zonal.contains(&format!("-{REGION}c.")), "{endpoint}");
        let interface = at(&endpoint, "VpcEndpoint.NetworkInterfaceIds.0")?;
        let interface = consumer
            .run(&format!("--region {REGION} ec2 describe-network-interfaces --network-interface-ids {interface}"))?;
        let address: Ipv4Addr = at(&interface, "NetworkInterfaces.0.PrivateIpAddress")?.parse()?;
        let group = at(&interface, "NetworkInterfaces.0.Groups.0.GroupId")?;
        consumer.run(&format!(
            "--region {REGION} ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 80 \
             --cidr 10.0.0.0/16"
        ))?;
        let endpoint = at(&endpoint, "VpcEndpoint.VpcEndpointId")?;

        // The provider sees it in its own region's list, with the consumer's region, and answers it.
        let seen = provider.run(&format!(
            "ec2 describe-vpc-endpoint-connections --filters Name=vpc-endpoint-region,Values={REGION}"
        ))?;
        ensure!(at(&seen, "VpcEndpointConnections.0.VpcEndpointId")? == endpoint, "{seen}");
        ensure!(at(&seen, "VpcEndpointConnections.0.VpcEndpointRegion")? == REGION, "{seen}");
        let client = &scenario.topology.host("client-a").netns;
        let (url, resolver) = (format!("http://{regional}/"), Resolver::new(*SECOND.ip())?);
        let fetch = || resolver.curl(client, &[&url]);
        eventually("the names lead to the endpoint", PATIENCE, || {
            for name in [regional, zonal] {
                let answer = dig(client, SECOND, &["+tries=1", "+time=1", name])?;
                ensure!(answer.addresses()? == [address], "{answer:?}");
            }
            Ok(())
        })?;
        ensure!(fetch().is_err(), "an endpoint that nobody has accepted carries a page");
        let answer =
            |verb: &str| format!("ec2 {verb}-vpc-endpoint-connections --service-id {id} --vpc-endpoint-ids {endpoint}");
        provider.run(&answer("accept"))?;
        let page = eventually("the page comes from the other region", PATIENCE, fetch)?;
        ensure!(page.starts_with("server-1"), "{page}");

        // A region that is taken away keeps its endpoints, and no more come; a rejected one carries nothing.
        provider.run(&format!("{modify} --remove-supported-regions {REGION}"))?;
        consumer.refused(&create)?;
        fetch()?;
        provider.run(&answer("reject"))?;
        eventually("a rejected endpoint carries nothing", PATIENCE, || {
            ensure!(fetch().is_err(), "the page still comes");
            Ok(())
        })?;
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}
