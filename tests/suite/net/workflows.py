"""Two workflows as boto3 calls of two accounts: `create PORT` makes both and prints where things are, as JSON; `refusals
JSON` then asks for what must be refused, and takes the first one away in the order that the refusals ask for. `listeners VPC
LB PORT=IP:PORT ...` gives a load balancer a listener for each of several servers."""

import json
import sys
import time

import boto3
from botocore.exceptions import ClientError


def account(name):
    keys = {"aws_access_key_id": f"AKIA{name.upper()}", "aws_secret_access_key": f"{name}-secret"}
    return [boto3.client(service, **keys) for service in ("ec2", "elbv2")]


(provider, provider_elb), (consumer, consumer_elb) = account("provider"), account("consumer")
PRIVATE = "Private DNS can't be enabled because the service {} does not provide a private DNS name."
CONNECTED = "Service has existing active VPC Endpoint connections!"
ASSOCIATED = "Load balancer '{}' cannot be deleted because it is currently associated with another service"


def network(ec2, cidr, *subnets):
    vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc])
    zones = [f"us-east-1{letter}" for letter in "ab"]
    return vpc, [ec2.create_subnet(VpcId=vpc, CidrBlock=subnet, AvailabilityZone=zone)["Subnet"]["SubnetId"]
                 for subnet, zone in zip(subnets, zones)]


def forward_to(elb, name, vpc, lb, listener, target, port):
    """A listener that leads to one address."""
    group = elb.create_target_group(Name=name, Protocol="TCP", Port=port, VpcId=vpc, TargetType="ip",
                                    HealthCheckIntervalSeconds=5)["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": target}])
    elb.create_listener(LoadBalancerArn=lb, Protocol="TCP", Port=listener,
                        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
    return group


def publish(ec2, elb, name, vpc, subnets, target, port):
    """A network load balancer to one address, and the service in front of it, for everybody."""
    lb = elb.create_load_balancer(Name=name, Type="network", Scheme="internal", Subnets=subnets)
    lb = lb["LoadBalancers"][0]["LoadBalancerArn"]
    group = forward_to(elb, name, vpc, lb, 80, target, port)
    elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[lb])
    service = ec2.create_vpc_endpoint_service_configuration(NetworkLoadBalancerArns=[lb], AcceptanceRequired=False)
    service = service["ServiceConfiguration"]
    ec2.modify_vpc_endpoint_service_permissions(
        ServiceId=service["ServiceId"],
        AddAllowedPrincipals=[f"arn:aws:iam::{number}:root" for number in ("111111111111", "222222222222")])
    return lb, group, service


def opened(ec2, vpc, name, cidr):
    """A security group that lets `cidr` to port 80, and nothing out, as templates make it."""
    group = ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
    nothing = {"IpProtocol": "icmp", "FromPort": 252, "ToPort": 86,
               "IpRanges": [{"CidrIp": "255.255.255.255/32", "Description": "Disallow all traffic"}]}
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[nothing])
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": cidr}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[web])
    return group


def addresses(ec2, endpoint):
    found = ec2.describe_network_interfaces(NetworkInterfaceIds=endpoint["NetworkInterfaceIds"])
    return [interface["PrivateIpAddress"] for interface in found["NetworkInterfaces"]]


def carried(ec2, endpoint):
    """Returns when the datapath has the endpoint, which is pending until then."""
    deadline = time.monotonic() + 10
    while True:
        found = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]
        if found["State"] == "available":
            return
        assert found["State"] == "pending" and time.monotonic() < deadline, found
        time.sleep(0.05)


def stacks(port):
    """Provider and consumer of the template: an application load balancer for the record beside the one that serves."""
    vpc, subnets = network(provider, "10.0.0.0/16", "10.0.0.0/17", "10.0.128.0/17")
    application = provider_elb.create_load_balancer(Name="alb", Type="application", Scheme="internal", Subnets=subnets)
    application = application["LoadBalancers"][0]
    assert application["State"]["Code"] == "failed" and "nothing serves" in application["State"]["Reason"], application
    refused(lambda: provider_elb.create_listener(LoadBalancerArn=application["LoadBalancerArn"], Protocol="TCP", Port=80,
                                                 DefaultActions=[{"Type": "forward", "TargetGroupArn": "arn"}]),
            "ValidationError", "Protocol 'TCP' must be one of '[HTTP, HTTPS]'")
    hello = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "ContentType": "text/plain"}}
    provider_elb.create_listener(LoadBalancerArn=application["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=[hello])
    lb, group, service = publish(provider, provider_elb, "nlb", vpc, subnets, "10.0.1.10", port)

    consumer_vpc, consumer_subnets = network(consumer, "10.0.0.0/16", "10.0.0.0/16")
    groups = opened(consumer, consumer_vpc, "endpoint", "10.0.1.10/32")
    function = consumer.create_security_group(GroupName="function", Description="f", VpcId=consumer_vpc)["GroupId"]
    consumer.authorize_security_group_ingress(GroupId=groups, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": function}]}])
    asked = {"VpcEndpointType": "Interface", "VpcId": consumer_vpc, "ServiceName": service["ServiceName"],
             "SubnetIds": consumer_subnets, "SecurityGroupIds": [groups]}
    refused(lambda: consumer.create_vpc_endpoint(PrivateDnsEnabled=True, **asked), "InvalidParameter",
            PRIVATE.format(service["ServiceName"]))
    endpoint = consumer.create_vpc_endpoint(PrivateDnsEnabled=False, **asked)["VpcEndpoint"]
    carried(consumer, endpoint["VpcEndpointId"])
    # The template's attribute is `zone:name`; its function splits it.
    entry = "{HostedZoneId}:{DnsName}".format(**endpoint["DnsEntries"][0])
    return {"vpcs": {"provider": vpc, "consumer": consumer_vpc}, "regional": entry.split(":")[1], "lb": lb,
            "service": service["ServiceId"], "endpoint": endpoint["VpcEndpointId"], "group": group}


def link(port):
    """Two networks, each with a service for one host of its own, and an endpoint to the other's at a chosen address."""
    sides = [("premises", "test01", consumer, consumer_elb, "10.200.0.0/16", "10.200.0.10", "10.200.0.110"),
             ("cloud", "test02", provider, provider_elb, "192.168.0.0/16", "192.168.0.10", "192.168.0.203")]
    made = []
    for name, _, ec2, elb, cidr, host, _ in sides:
        vpc, subnets = network(ec2, cidr, cidr)
        made.append((vpc, subnets, publish(ec2, elb, name, vpc, subnets, host, port)[2]["ServiceName"]))
    found = {}
    for (name, host, ec2, _, cidr, _, address), (vpc, subnets, _), (_, _, other) in zip(sides, made, reversed(made)):
        endpoint = ec2.create_vpc_endpoint(
            VpcEndpointType="Interface", VpcId=vpc, ServiceName=other, SubnetIds=subnets,
            SubnetConfigurations=[{"SubnetId": subnets[0], "Ipv4": address}],
            SecurityGroupIds=[opened(ec2, vpc, "link", cidr)])["VpcEndpoint"]
        assert addresses(ec2, endpoint) == [address], endpoint
        found[host] = address
    return {"vpcs": {side[0]: one[0] for side, one in zip(sides, made)}, "link": found}


def refused(ask, code, text):
    try:
        ask()
    except ClientError as error:
        got = error.response["Error"]
        assert got["Code"] == code and text in got["Message"], got
    else:
        raise AssertionError(f"not refused: {text}")


def refusals(made):
    """What guards a service in use, word for word; then the way that they leave open."""
    ids = {"ServiceIds": [made["service"]]}
    guarded = provider.delete_vpc_endpoint_service_configurations(**ids)["Unsuccessful"]
    assert [one["Error"]["Message"] for one in guarded] == [CONNECTED], guarded
    refused(lambda: provider_elb.delete_load_balancer(LoadBalancerArn=made["lb"]), "ResourceInUse",
            ASSOCIATED.format(made["lb"]))
    consumer.delete_vpc_endpoints(VpcEndpointIds=[made["endpoint"]])
    assert not provider.delete_vpc_endpoint_service_configurations(**ids)["Unsuccessful"]
    provider_elb.delete_load_balancer(LoadBalancerArn=made["lb"])
    provider_elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[made["lb"]])
    provider_elb.delete_target_group(TargetGroupArn=made["group"])


def listeners(vpc, lb, rows):
    for number, row in enumerate(rows):
        port, _, target = row.partition("=")
        address, _, target_port = target.partition(":")
        forward_to(provider_elb, f"group{number}", vpc, lb, int(port), address, int(target_port))


match sys.argv[1:]:
    case ["listeners", vpc, lb, *rows]:
        listeners(vpc, lb, rows)
        print("null")
    case ["create", port]:
        first, second = stacks(int(port)), link(int(port))
        print(json.dumps({**first, **second, "vpcs": {**first["vpcs"], **second["vpcs"]}}))
    case ["refusals", made]:
        refusals(json.loads(made))
        print("null")
