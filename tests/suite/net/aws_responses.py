"""Asks every action that answers, through botocore, and compares each raw answer with botocore's model of it.

What botocore's own parser ignores is an error here: an element that the model does not know, a list whose elements have
another tag, a text that is no number, boolean, time or value of its enumeration; and the members that are named with a
call must be there.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

import botocore.session
from botocore.exceptions import ClientError, WaiterError

problems = []
seen = {}


def local(element):
    return element.tag.rsplit("}", 1)[-1]


def wire_name(name, shape):
    return shape.serialization.get("name", name)


def check(shape, element, path):
    kind = shape.type_name
    text = (element.text or "").strip()
    if kind == "structure":
        members = {wire_name(name, member): (name, member) for name, member in shape.members.items()}
        tags = [local(child) for child in element]
        for child in element:
            if local(child) not in members:
                problems.append(f"{path}: unknown element <{local(child)}>")
            else:
                name, member = members[local(child)]
                check(member, child, f"{path}.{name}")
        for tag in {tag for tag in tags if tags.count(tag) > 1}:
            problems.append(f"{path}: <{tag}> comes {tags.count(tag)} times")
        for name in shape.required_members:
            if wire_name(name, shape.members[name]) not in tags:
                problems.append(f"{path}: {name} is missing")
    elif kind == "list":
        tag = shape.member.serialization.get("name", "member")
        if text:
            problems.append(f"{path}: text '{text}' in a list")
        for number, child in enumerate(element):
            if local(child) != tag:
                problems.append(f"{path}: <{local(child)}> instead of <{tag}>")
            check(shape.member, child, f"{path}[{number}]")
    elif kind == "map":
        for number, child in enumerate(element):
            if [local(child)] + [local(part) for part in child] != ["entry", "key", "value"]:
                problems.append(f"{path}[{number}]: no entry of key and value")
    elif len(element):
        problems.append(f"{path}: elements in a {kind}")
    elif kind in ("integer", "long", "float", "double"):
        try:
            float(text)
        except ValueError:
            problems.append(f"{path}: '{text}' is no number")
    elif kind == "boolean":
        if text not in ("true", "false"):
            problems.append(f"{path}: '{text}' is no boolean")
    elif kind == "timestamp":
        try:
            datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
        except ValueError:
            problems.append(f"{path}: '{text}' is no time")
    elif kind == "string" and getattr(shape, "enum", None):
        # EC2 writes the states of endpoints with a small first letter, unlike its own model.
        if text.lower() not in [value.lower() for value in shape.enum]:
            problems.append(f"{path}: '{text}' is none of {shape.enum}")


def compare(response_dict, operation_model, **_):
    if response_dict["status_code"] != 200:
        return
    name = operation_model.name
    service = operation_model.service_model.service_name
    seen[f"{service}:{name}"] = seen.get(f"{service}:{name}", 0) + 1
    if service == "acm":
        json.loads(response_dict["body"])
        return
    root = xml.fromstring(response_dict["body"])
    if local(root) != f"{name}Response":
        problems.append(f"{name}: the root is <{local(root)}>")
    namespace = root.tag.partition("}")[0].lstrip("{")
    version = operation_model.service_model.api_version
    if version not in namespace:
        problems.append(f"{name}: namespace '{namespace}'")
    shape = operation_model.output_shape
    if operation_model.service_model.protocol == "ec2":
        ids = [child for child in root if local(child) == "requestId"]
        if len(ids) != 1:
            problems.append(f"{name}: {len(ids)} requestId")
        for child in ids:
            root.remove(child)
        if shape is None:
            # Actions without members of their own answer <return>true</return>.
            if [local(child) for child in root] not in ([], ["return"]):
                problems.append(f"{name}: members that the model does not have")
            return
        check(shape, root, name)
        return
    tags = [local(child) for child in root]
    if tags != [f"{name}Result", "ResponseMetadata"]:
        problems.append(f"{name}: {tags}")
    elif shape is not None:
        check(shape, root[0], name)


session = botocore.session.get_session()
session.register("before-parse", compare)
ec2, elb, sts, acm = (session.create_client(name) for name in ("ec2", "elbv2", "sts", "acm"))


def call(client, action, expect=(), **parameters):
    """Calls, and wants the members named in `expect`, each a path of keys and the index 0 into lists."""
    answer = getattr(client, action)(**parameters)
    for path in expect:
        value = answer
        for key in path.split("."):
            try:
                value = value[int(key)] if key.isdigit() else value[key]
            except (KeyError, IndexError):
                problems.append(f"{action}: {path} is missing")
                break
    return answer


def refused(client, action, code, **parameters):
    try:
        getattr(client, action)(**parameters)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        if got != code:
            problems.append(f"{action}: refused with {got}, not {code}")
    else:
        problems.append(f"{action}: not refused")


def at_once(client, waiter, **parameters):
    """What a waiter waits for is there at its first poll."""
    try:
        client.get_waiter(waiter).wait(WaiterConfig={"Delay": 1, "MaxAttempts": 1}, **parameters)
    except WaiterError as error:
        problems.append(f"the waiter {waiter} is not satisfied at once: {error}")


tags = [{"Key": "Name", "Value": "<a & b>"}]


def tagged(kind):
    return [{"ResourceType": kind, "Tags": tags}]


call(sts, "get_caller_identity", ["Account", "Arn", "UserId"])
call(ec2, "describe_availability_zones", ["AvailabilityZones.0.ZoneId"])
call(ec2, "describe_regions", ["Regions.0.RegionName"])
call(ec2, "describe_account_attributes", ["AccountAttributes.0.AttributeValues.0.AttributeValue"])
vpc = call(ec2, "create_vpc", ["Vpc.CidrBlockAssociationSet.0.CidrBlockState.State", "Vpc.Tags.0.Key", "Vpc.OwnerId"],
           CidrBlock="10.9.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
call(ec2, "modify_vpc_attribute", VpcId=vpc, EnableDnsHostnames={"Value": True})
answer = call(ec2, "describe_vpc_attribute", ["EnableDnsHostnames.Value"], VpcId=vpc, Attribute="enableDnsHostnames")
if answer["EnableDnsHostnames"]["Value"] is not True:
    problems.append("describe_vpc_attribute: EnableDnsHostnames was not set")
subnets = [call(ec2, "create_subnet", ["Subnet.AvailabilityZoneId", "Subnet.AvailableIpAddressCount", "Subnet.SubnetArn"],
                VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"us-east-1{zone}",
                TagSpecifications=tagged("subnet"))["Subnet"]["SubnetId"]
           for number, zone in enumerate("ab")]
call(ec2, "modify_subnet_attribute", SubnetId=subnets[0], MapPublicIpOnLaunch={"Value": True})
shown = call(ec2, "describe_subnets", SubnetIds=[subnets[0]])["Subnets"][0]
if shown["MapPublicIpOnLaunch"] is not True:
    problems.append("modify_subnet_attribute: MapPublicIpOnLaunch was not set")
at_once(ec2, "vpc_exists", VpcIds=[vpc])
at_once(ec2, "vpc_available", VpcIds=[vpc])
at_once(ec2, "subnet_available", SubnetIds=subnets)
call(ec2, "describe_vpcs", ["Vpcs.0.DhcpOptionsId"], VpcIds=[vpc])
call(ec2, "describe_subnets", ["Subnets.0.VpcId"], Filters=[{"Name": "vpc-id", "Values": [vpc]}])
call(ec2, "describe_route_tables", ["RouteTables.0.Routes.0.GatewayId", "RouteTables.0.Associations.0.Main"])
group = call(ec2, "create_security_group", ["SecurityGroupArn", "Tags.0.Value"], GroupName="web", Description="Web",
             VpcId=vpc, TagSpecifications=tagged("security-group"))["GroupId"]
at_once(ec2, "security_group_exists", GroupIds=[group])
storage_list = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-00000000"}]}]
refused(ec2, "authorize_security_group_egress", "InvalidPrefixListID.NotFound", GroupId=group, IpPermissions=storage_list)
permissions = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.9.0.0/16", "Description": "in"}]},
               {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
               {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]}]
call(ec2, "authorize_security_group_ingress", ["SecurityGroupRules.0.SecurityGroupRuleId", "SecurityGroupRules.0.Tags.0.Value"],
     GroupId=group, IpPermissions=permissions, TagSpecifications=tagged("security-group-rule"))
call(ec2, "authorize_security_group_egress", ["SecurityGroupRules.0.IsEgress"], GroupId=group,
     IpPermissions=[{"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
call(ec2, "describe_security_groups", ["SecurityGroups.0.IpPermissions.0.IpProtocol", "SecurityGroups.0.IpPermissionsEgress.0"],
     GroupIds=[group])
call(ec2, "describe_security_group_rules", ["SecurityGroupRules.0.GroupOwnerId"],
     Filters=[{"Name": "group-id", "Values": [group]}])
refused(ec2, "revoke_security_group_ingress", "InvalidPermission.NotFound", GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
call(ec2, "revoke_security_group_ingress", ["RevokedSecurityGroupRules.0.SecurityGroupRuleId"], GroupId=group,
     IpPermissions=permissions[1:2])
call(ec2, "revoke_security_group_egress", ["RevokedSecurityGroupRules.0.IsEgress"], GroupId=group,
     IpPermissions=[{"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])

target_group = call(elb, "create_target_group", ["TargetGroups.0.Matcher.HttpCode", "TargetGroups.0.HealthCheckPath"],
                    Name="tour", Protocol="TCP", Port=80, VpcId=vpc, TargetType="ip", HealthCheckProtocol="HTTP",
                    Tags=tags)["TargetGroups"][0]["TargetGroupArn"]
call(elb, "modify_target_group", ["TargetGroups.0.HealthCheckIntervalSeconds"], TargetGroupArn=target_group,
     HealthCheckIntervalSeconds=10)
call(elb, "modify_target_group_attributes", ["Attributes.0.Key"], TargetGroupArn=target_group,
     Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "0"}])
call(elb, "describe_target_group_attributes", ["Attributes.0.Value"], TargetGroupArn=target_group)
call(elb, "register_targets", TargetGroupArn=target_group, Targets=[{"Id": "10.9.0.99"}, {"Id": "10.9.0.98", "Port": 81}])
instance = call(ec2, "run_instances",
                ["ReservationId", "Instances.0.Placement.AvailabilityZone", "Instances.0.LaunchTime", "Instances.0.SecurityGroups.0",
                 "Instances.0.NetworkInterfaces.0.Attachment.AttachmentId", "Instances.0.ImageId", "Instances.0.State.Code"],
                MinCount=1, MaxCount=1, ImageId="ami-1", InstanceType="t3.micro", ClientToken="tour",
                TagSpecifications=tagged("instance"),
                NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnets[0], "PrivateIpAddress": "10.9.0.77", "Groups": [group]}],
                )["Instances"][0]["InstanceId"]
instances = {"InstanceIds": [instance]}
call(ec2, "describe_instances", ["Reservations.0.Instances.0.Tags.0.Key", "Reservations.0.Instances.0.PrivateIpAddress"],
     Filters=[{"Name": "instance-id", "Values": [instance]}])
call(ec2, "describe_network_interfaces", ["NetworkInterfaces.0.Attachment.InstanceId", "NetworkInterfaces.0.Attachment.AttachTime"],
     Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])
hosts = call(elb, "create_target_group", ["TargetGroups.0.TargetType"], Name="hosts", Protocol="TCP", Port=80,
             VpcId=vpc)["TargetGroups"][0]["TargetGroupArn"]
call(elb, "register_targets", TargetGroupArn=hosts, Targets=[{"Id": instance}])
call(ec2, "stop_instances", ["StoppingInstances.0.PreviousState.Name"], **instances)
ec2.get_waiter("instance_stopped").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 1}, **instances)
call(elb, "describe_target_health", ["TargetHealthDescriptions.0.TargetHealth.Reason",
     "TargetHealthDescriptions.0.AnomalyDetection.Result"], TargetGroupArn=hosts, Include=["All"])
refused(elb, "register_targets", "InvalidTarget", TargetGroupArn=hosts, Targets=[{"Id": instance, "Port": 81}])
call(ec2, "start_instances", ["StartingInstances.0.CurrentState.Code"], **instances)
ec2.get_waiter("instance_running").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 1}, **instances)
call(ec2, "terminate_instances", ["TerminatingInstances.0.CurrentState.Name"], **instances)
ec2.get_waiter("instance_terminated").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 1}, **instances)
call(elb, "delete_target_group", TargetGroupArn=hosts)
load_balancer = call(elb, "create_load_balancer",
                     ["LoadBalancers.0.AvailabilityZones.1.LoadBalancerAddresses.0.PrivateIPv4Address",
                      "LoadBalancers.0.DNSName", "LoadBalancers.0.State.Code", "LoadBalancers.0.SecurityGroups.0",
                      "LoadBalancers.0.CreatedTime"],
                     Name="tour", Type="network", Scheme="internal", Subnets=subnets, SecurityGroups=[group],
                     Tags=tags)["LoadBalancers"][0]["LoadBalancerArn"]
at_once(elb, "load_balancer_exists", LoadBalancerArns=[load_balancer])
at_once(elb, "load_balancer_available", LoadBalancerArns=[load_balancer])
call(elb, "set_subnets", ["AvailabilityZones.0.LoadBalancerAddresses.0.PrivateIPv4Address", "IpAddressType"],
     LoadBalancerArn=load_balancer, Subnets=subnets)
call(elb, "describe_capacity_reservation", ["DecreaseRequestsRemaining"], LoadBalancerArn=load_balancer)
application = call(elb, "create_load_balancer", ["LoadBalancers.0.State.Reason"], Name="application", Type="application",
                   Scheme="internal", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
fixed = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "ContentType": "text/plain", "MessageBody": "Hello"}}]
requests = call(elb, "create_listener", ["Listeners.0.DefaultActions.0.FixedResponseConfig.MessageBody", "Listeners.0.Protocol"],
                LoadBalancerArn=application, Protocol="HTTP", Port=80, DefaultActions=fixed,
                Tags=tags)["Listeners"][0]["ListenerArn"]
pages = call(elb, "create_target_group", ["TargetGroups.0.ProtocolVersion", "TargetGroups.0.Matcher.HttpCode"], Name="pages",
             Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")["TargetGroups"][0]["TargetGroupArn"]
call(elb, "modify_target_group_attributes", ["Attributes.0.Key"], TargetGroupArn=pages,
     Attributes=[{"Key": "stickiness.type", "Value": "lb_cookie"}, {"Key": "slow_start.duration_seconds", "Value": "30"}])
call(elb, "modify_load_balancer_attributes", ["Attributes.0.Key"], LoadBalancerArn=application,
     Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "120"}])
to_pages = [{"Type": "forward", "ForwardConfig": {
    "TargetGroups": [{"TargetGroupArn": pages, "Weight": 3}],
    "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}}]
redirect = [{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443"}}]
every = [{"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}},
         {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "User-Agent", "Values": ["*Mozilla*"]}},
         {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "version", "Value": "v1"}]}},
         {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
         {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}}]
first = call(elb, "create_rule", ["Rules.0.Conditions.4.SourceIpConfig.Values.0", "Rules.0.Actions.0.ForwardConfig.TargetGroups.0.Weight"],
             ListenerArn=requests, Priority=10, Conditions=every, Actions=to_pages, Tags=tags)["Rules"][0]["RuleArn"]
path = [{"Field": "path-pattern", "Values": ["/img/*"]}]
second = call(elb, "create_rule", ["Rules.0.Conditions.0.PathPatternConfig.Values.0", "Rules.0.Actions.0.RedirectConfig.Host"],
              ListenerArn=requests, Priority=20, Conditions=path, Actions=redirect)["Rules"][0]["RuleArn"]
refused(elb, "create_rule", "PriorityInUse", ListenerArn=requests, Priority=20, Conditions=path, Actions=redirect)
call(elb, "modify_rule", ["Rules.0.Actions.0.FixedResponseConfig.StatusCode"], RuleArn=second, Actions=fixed)
call(elb, "set_rule_priorities", ["Rules.1.Priority"],
     RulePriorities=[{"RuleArn": first, "Priority": 20}, {"RuleArn": second, "Priority": 10}])
found = call(elb, "describe_rules", ["Rules.2.IsDefault"], ListenerArn=requests)["Rules"]
if [rule["RuleArn"] for rule in found[:2]] != [second, first] or found[2]["Priority"] != "default":
    problems.append(f"describe_rules: not in the order of their priorities: {found}")
call(elb, "describe_tags", ["TagDescriptions.0.Tags.0.Key"], ResourceArns=[first])
call(elb, "describe_listener_attributes", ["Attributes.0.Key"], ListenerArn=requests)
behind = call(elb, "create_target_group", ["TargetGroups.0.HealthCheckPath"], Name="behind", Protocol="TCP", Port=80, VpcId=vpc,
              TargetType="alb")["TargetGroups"][0]["TargetGroupArn"]
call(elb, "register_targets", TargetGroupArn=behind, Targets=[{"Id": application}])
health = call(elb, "describe_target_health", ["TargetHealthDescriptions.0.TargetHealth.Description"], TargetGroupArn=behind)
if health["TargetHealthDescriptions"][0]["TargetHealth"]["State"] != "unavailable":
    problems.append(f"describe_target_health: {health}")
call(elb, "create_listener", LoadBalancerArn=load_balancer, Protocol="TCP", Port=8000,
     DefaultActions=[{"Type": "forward", "TargetGroupArn": behind}])
refused(elb, "delete_load_balancer", "ResourceInUse", LoadBalancerArn=application)
call(elb, "deregister_targets", TargetGroupArn=behind, Targets=[{"Id": application}])
call(elb, "delete_rule", RuleArn=first)
call(elb, "delete_load_balancer", LoadBalancerArn=application)
call(elb, "delete_target_group", TargetGroupArn=pages)
call(elb, "set_security_groups", ["SecurityGroupIds.0"], LoadBalancerArn=load_balancer, SecurityGroups=[group],
     EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic="off")
call(elb, "modify_load_balancer_attributes", ["Attributes.0.Key"], LoadBalancerArn=load_balancer,
     Attributes=[{"Key": "deletion_protection.enabled", "Value": "true"}])
call(elb, "describe_load_balancer_attributes", ["Attributes.0.Value"], LoadBalancerArn=load_balancer)
refused(elb, "delete_load_balancer", "OperationNotPermitted", LoadBalancerArn=load_balancer)
call(elb, "modify_load_balancer_attributes", LoadBalancerArn=load_balancer,
     Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])
call(elb, "set_ip_address_type", ["IpAddressType"], LoadBalancerArn=load_balancer, IpAddressType="ipv4")
call(elb, "describe_load_balancers", ["LoadBalancers.0.VpcId"], Names=["tour"])
forward = [{"Type": "forward", "TargetGroupArn": target_group}]
listener = call(elb, "create_listener", ["Listeners.0.DefaultActions.0.ForwardConfig.TargetGroups.0.TargetGroupArn"],
                LoadBalancerArn=load_balancer, Protocol="TCP", Port=80, DefaultActions=forward,
                Tags=tags)["Listeners"][0]["ListenerArn"]
call(elb, "modify_listener", ["Listeners.0.Port"], ListenerArn=listener, DefaultActions=forward)
call(elb, "modify_listener_attributes", ["Attributes.0.Value"], ListenerArn=listener,
     Attributes=[{"Key": "tcp.idle_timeout.seconds", "Value": "60"}])
call(elb, "describe_listener_attributes", ["Attributes.0.Key"], ListenerArn=listener)
call(elb, "describe_listeners", ["Listeners.0.Protocol"], LoadBalancerArn=load_balancer)
with tempfile.TemporaryDirectory() as directory:
    files = [os.path.join(directory, name) for name in ("certificate", "key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=tour.example", "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    pem = [open(name, "rb").read() for name in files]
certificates = [call(acm, "import_certificate", Certificate=pem[0], PrivateKey=pem[1])["CertificateArn"] for _ in range(2)]
call(acm, "describe_certificate", ["Certificate.NotAfter"], CertificateArn=certificates[0])
call(acm, "list_certificates", ["CertificateSummaryList.0.KeyAlgorithm"])
session = {"SessionCookieName": "tour", "Scope": "openid email", "SessionTimeout": 3600,
           "AuthenticationRequestExtraParams": {"display": "page", "prompt": "login"}, "OnUnauthenticatedRequest": "deny"}
oidc = {"Issuer": "https://idp.example.com", "AuthorizationEndpoint": "https://idp.example.com/authorize",
        "TokenEndpoint": "https://idp.example.com/token", "UserInfoEndpoint": "https://idp.example.com/userinfo",
        "ClientId": "tour", **session}
cognito = {"UserPoolArn": "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_abcdefghi",
           "UserPoolClientId": "tour", "UserPoolDomain": "tour", **session}
jwt = {"JwksEndpoint": "https://idp.example.com/keys", "Issuer": "https://idp.example.com",
       "AdditionalClaims": [{"Format": "string-array", "Name": "scope", "Values": ["read", "write"]}]}


def authenticated(kind, member, config):
    return [{"Type": kind, "Order": 10, member: config}, {**fixed[0], "Order": 20}]


def as_asked(actions, config):
    """What is described is what was asked for, without the secret."""
    member = next(name for name in actions[0] if name.endswith("Config"))
    if actions[0][member] != config or [action["Order"] for action in actions] != [10, 20]:
        problems.append(f"{actions[0]['Type']}: described as {actions}")


with_secret = {**oidc, "ClientSecret": "correct-horse"}
asking = authenticated("authenticate-oidc", "AuthenticateOidcConfig", with_secret)
application = call(elb, "create_load_balancer", Name="asking", Type="application", Scheme="internal",
                   Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
plain = call(elb, "create_listener", LoadBalancerArn=application, Protocol="HTTP", Port=80,
             DefaultActions=fixed)["Listeners"][0]["ListenerArn"]
refused(elb, "create_rule", "ValidationError", ListenerArn=plain, Priority=1, Conditions=path, Actions=asking)
https = call(elb, "create_listener", LoadBalancerArn=application, Protocol="HTTPS", Port=443,
             Certificates=[{"CertificateArn": certificates[0]}], DefaultActions=asking)["Listeners"][0]
as_asked(https["DefaultActions"], oidc)
existing = authenticated("authenticate-oidc", "AuthenticateOidcConfig", {**oidc, "UseExistingClientSecret": True})
as_asked(call(elb, "modify_listener", ListenerArn=https["ListenerArn"],
              DefaultActions=existing)["Listeners"][0]["DefaultActions"], oidc)
refused(elb, "create_rule", "ValidationError", ListenerArn=https["ListenerArn"], Priority=1, Conditions=path, Actions=existing)
made = call(elb, "create_rule", ListenerArn=https["ListenerArn"], Priority=1, Conditions=path,
            Actions=authenticated("authenticate-cognito", "AuthenticateCognitoConfig", cognito))["Rules"][0]
as_asked(made["Actions"], cognito)
as_asked(call(elb, "modify_rule", RuleArn=made["RuleArn"],
              Actions=authenticated("jwt-validation", "JwtValidationConfig", jwt))["Rules"][0]["Actions"], jwt)
as_asked(call(elb, "describe_rules", RuleArns=[made["RuleArn"]])["Rules"][0]["Actions"], jwt)
as_asked(call(elb, "describe_listeners", ListenerArns=[https["ListenerArn"]])["Listeners"][0]["DefaultActions"], oidc)
call(elb, "delete_load_balancer", LoadBalancerArn=application)
tls = call(elb, "create_listener", ["Listeners.0.Certificates.0.CertificateArn", "Listeners.0.AlpnPolicy.0"],
           LoadBalancerArn=load_balancer, Protocol="TLS", Port=443, DefaultActions=forward,
           Certificates=[{"CertificateArn": certificates[0]}], AlpnPolicy=["HTTP2Preferred"])["Listeners"][0]["ListenerArn"]
call(elb, "add_listener_certificates", ["Certificates.0.CertificateArn"], ListenerArn=tls,
     Certificates=[{"CertificateArn": certificates[1]}])
call(elb, "describe_listener_certificates", ["Certificates.0.IsDefault"], ListenerArn=tls)
refused(elb, "remove_listener_certificates", "OperationNotPermitted", ListenerArn=tls,
        Certificates=[{"CertificateArn": certificates[0]}])
call(elb, "remove_listener_certificates", ListenerArn=tls, Certificates=[{"CertificateArn": certificates[1]}])
call(acm, "delete_certificate", CertificateArn=certificates[1])
refused(acm, "delete_certificate", "ResourceInUseException", CertificateArn=certificates[0])
call(elb, "delete_listener", ListenerArn=tls)
call(acm, "delete_certificate", CertificateArn=certificates[0])
call(elb, "describe_ssl_policies", ["SslPolicies.0.Ciphers.0.Name", "SslPolicies.0.SslProtocols.0"])
refused(elb, "describe_ssl_policies", "SSLPolicyNotFound", Names=["ELBSecurityPolicy-2016-08"])
rule = call(elb, "describe_rules", ["Rules.0.IsDefault"], ListenerArn=listener)["Rules"][0]["RuleArn"]
refused(elb, "create_rule", "InvalidConfigurationRequest", ListenerArn=listener, Priority=1, Actions=forward,
        Conditions=[{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}}])
refused(elb, "modify_rule", "OperationNotPermitted", RuleArn=rule, Actions=forward)
refused(elb, "delete_rule", "OperationNotPermitted", RuleArn=rule)
refused(elb, "delete_rule", "RuleNotFound", RuleArn=rule[:-1] + "g")
refused(elb, "set_rule_priorities", "OperationNotPermitted", RulePriorities=[{"RuleArn": rule, "Priority": 1}])
call(elb, "describe_target_groups", ["TargetGroups.0.LoadBalancerArns.0"], LoadBalancerArn=load_balancer)
call(elb, "describe_target_health",
     ["TargetHealthDescriptions.1.TargetHealth.State", "TargetHealthDescriptions.0.AdministrativeOverride.Description"],
     TargetGroupArn=target_group)
call(elb, "describe_account_limits", ["Limits.0.Max"])
call(elb, "add_tags", ResourceArns=[load_balancer], Tags=[{"Key": "more", "Value": ""}])
call(elb, "describe_tags", ["TagDescriptions.0.Tags.0.Key"], ResourceArns=[load_balancer])
call(elb, "remove_tags", ResourceArns=[load_balancer], TagKeys=["more"])

service = call(ec2, "create_vpc_endpoint_service_configuration",
               ["ServiceConfiguration.ServiceType.0.ServiceType", "ServiceConfiguration.BaseEndpointDnsNames.0",
                "ServiceConfiguration.AvailabilityZoneIds.1", "ServiceConfiguration.Tags.0", "ClientToken"],
               NetworkLoadBalancerArns=[load_balancer], ClientToken="tour", TagSpecifications=tagged("vpc-endpoint-service"),
               )["ServiceConfiguration"]
call(ec2, "describe_vpc_endpoint_service_configurations", ["ServiceConfigurations.0.ServiceName"])
call(ec2, "modify_vpc_endpoint_service_configuration", ["Return"], ServiceId=service["ServiceId"], AcceptanceRequired=True,
     RemoveSupportedIpAddressTypes=["ipv6"])
call(ec2, "modify_vpc_endpoint_service_configuration", ["Return"], ServiceId=service["ServiceId"], PrivateDnsName="shop.example.com")
call(ec2, "describe_vpc_endpoint_service_configurations", ["ServiceConfigurations.0.PrivateDnsNameConfiguration.Value"])
call(ec2, "describe_vpc_endpoint_services", ["ServiceDetails.0.PrivateDnsNames.0.PrivateDnsName"],
     Filters=[{"Name": "service-type", "Values": ["Interface"]}])
call(ec2, "start_vpc_endpoint_service_private_dns_verification", ["ReturnValue"], ServiceId=service["ServiceId"])
call(ec2, "modify_vpc_endpoint_service_configuration", ServiceId=service["ServiceId"], RemovePrivateDnsName=True)
call(ec2, "modify_vpc_endpoint_service_permissions", ["AddedPrincipals.0.ServicePermissionId", "ReturnValue"],
     ServiceId=service["ServiceId"], AddAllowedPrincipals=["*", "arn:aws:iam::333333333333:role/ci"])
call(ec2, "describe_vpc_endpoint_service_permissions", ["AllowedPrincipals.1.PrincipalType"], ServiceId=service["ServiceId"])
call(ec2, "describe_vpc_endpoint_services", ["ServiceDetails.0.SupportedIpAddressTypes.0", "ServiceNames.0"])
refused(ec2, "create_vpc_endpoint", "InvalidParameter", VpcEndpointType="Interface", VpcId=vpc,
        ServiceName=service["ServiceName"], PrivateDnsEnabled=True)
endpoint = call(ec2, "create_vpc_endpoint",
                ["VpcEndpoint.DnsEntries.2.HostedZoneId", "VpcEndpoint.NetworkInterfaceIds.1", "VpcEndpoint.Groups.0.GroupName",
                 "VpcEndpoint.CreationTimestamp", "VpcEndpoint.OwnerId", "VpcEndpoint.Tags.0"],
                VpcEndpointType="Interface", VpcId=vpc, ServiceName=service["ServiceName"], SubnetIds=subnets,
                SecurityGroupIds=[group], TagSpecifications=tagged("vpc-endpoint"))["VpcEndpoint"]["VpcEndpointId"]
default = call(ec2, "describe_security_groups", ["SecurityGroups.0.IpPermissions.0.UserIdGroupPairs.0.GroupId"],
               Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]["GroupId"]
refused(ec2, "delete_security_group", "CannotDelete", GroupId=default)
call(ec2, "modify_vpc_endpoint", ["Return"], VpcEndpointId=endpoint, RemoveSubnetIds=[subnets[1]], AddSecurityGroupIds=[default],
     RemoveSecurityGroupIds=[group])
call(ec2, "describe_vpc_endpoints", ["VpcEndpoints.0.State"], VpcEndpointIds=[endpoint])
call(ec2, "describe_vpc_endpoint_associations", VpcEndpointIds=[endpoint])
call(ec2, "describe_network_interfaces", ["NetworkInterfaces.0.PrivateIpAddresses.0.Primary", "NetworkInterfaces.0.InterfaceType"],
     Filters=[{"Name": "vpc-id", "Values": [vpc]}])
target = "file:/dev/null"
notification = call(ec2, "create_vpc_endpoint_connection_notification",
                    ["ConnectionNotification.ConnectionNotificationState", "ConnectionNotification.ConnectionEvents.0", "ClientToken"],
                    ServiceId=service["ServiceId"], ConnectionNotificationArn=target, ConnectionEvents=["Accept", "Reject"],
                    ClientToken="told")["ConnectionNotification"]["ConnectionNotificationId"]
call(ec2, "describe_vpc_endpoint_connection_notifications", ["ConnectionNotificationSet.0.ServiceId"],
     Filters=[{"Name": "connection-notification-arn", "Values": [target]}])
call(ec2, "modify_vpc_endpoint_connection_notification", ["ReturnValue"], ConnectionNotificationId=notification,
     ConnectionEvents=["Connect"])
call(ec2, "delete_vpc_endpoint_connection_notifications", ConnectionNotificationIds=[notification])
call(ec2, "modify_vpc_endpoint_service_payer_responsibility", ["ReturnValue"], ServiceId=service["ServiceId"],
     PayerResponsibility="ServiceOwner")
call(ec2, "modify_vpc_endpoint_payer_responsibility", ["VpcEndpointId", "PayerResponsibilities.0.PayerResponsibilityType"],
     ServiceId=service["ServiceId"], VpcEndpointId=endpoint, PayerResponsibility="vpc-endpoint-service-account",
     Scope="vpc-endpoint-charges")
interface = call(ec2, "describe_vpc_endpoints", VpcEndpointIds=[endpoint])["VpcEndpoints"][0]["NetworkInterfaceIds"][0]
table = call(ec2, "create_route_table", ["RouteTable.Routes.0.GatewayId", "RouteTable.OwnerId", "RouteTable.Tags.0.Key", "ClientToken"],
             VpcId=vpc, ClientToken="table", TagSpecifications=tagged("route-table"))["RouteTable"]["RouteTableId"]
call(ec2, "create_route", ["Return"], RouteTableId=table, DestinationCidrBlock="10.200.0.10/32", NetworkInterfaceId=interface)
refused(ec2, "create_route", "RouteAlreadyExists", RouteTableId=table, DestinationCidrBlock="10.200.0.10/32", VpcEndpointId=endpoint)
call(ec2, "replace_route", RouteTableId=table, DestinationCidrBlock="10.200.0.10/32", VpcEndpointId=endpoint)
association = call(ec2, "associate_route_table", ["AssociationId", "AssociationState.State"], RouteTableId=table,
                   SubnetId=subnets[0])["AssociationId"]
call(ec2, "describe_route_tables", ["RouteTables.0.Routes.1.State", "RouteTables.0.Associations.0.SubnetId"], RouteTableIds=[table])
refused(ec2, "delete_route_table", "DependencyViolation", RouteTableId=table)
call(ec2, "disassociate_route_table", AssociationId=association)
call(ec2, "delete_route", RouteTableId=table, DestinationCidrBlock="10.200.0.10/32")
call(ec2, "delete_route_table", RouteTableId=table)
storage = "com.amazonaws.us-east-1.s3"
call(ec2, "describe_vpc_endpoint_services", ["ServiceDetails.0.Owner", "ServiceDetails.0.ServiceType.0.ServiceType"], ServiceNames=[storage])
main = call(ec2, "describe_route_tables", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]["RouteTableId"]
gateway = call(ec2, "create_vpc_endpoint", ["VpcEndpoint.RouteTableIds.0", "VpcEndpoint.PolicyDocument", "VpcEndpoint.State"],
               VpcId=vpc, ServiceName=storage, RouteTableIds=[main])["VpcEndpoint"]["VpcEndpointId"]
call(ec2, "describe_route_tables", ["RouteTables.0.Routes.1.DestinationPrefixListId"], RouteTableIds=[main])
refused(ec2, "create_vpc_endpoint", "RouteAlreadyExists", VpcId=vpc, ServiceName=storage, RouteTableIds=[main])
call(ec2, "modify_vpc_endpoint", VpcEndpointId=gateway, RemoveRouteTableIds=[main], ResetPolicy=True)
call(ec2, "describe_vpc_endpoints", ["VpcEndpoints.0.VpcEndpointType", "VpcEndpoints.0.ServiceName"], VpcEndpointIds=[gateway])
call(ec2, "delete_vpc_endpoints", VpcEndpointIds=[gateway])
call(ec2, "describe_vpc_endpoint_connections", ["VpcEndpointConnections.0.VpcEndpointConnectionId"])
both = {"ServiceId": service["ServiceId"], "VpcEndpointIds": [endpoint]}
call(ec2, "accept_vpc_endpoint_connections", **both)
call(ec2, "delete_vpc_endpoint_service_configurations", ["Unsuccessful.0.Error.Code"], ServiceIds=[service["ServiceId"]])
call(ec2, "reject_vpc_endpoint_connections", **both)
call(ec2, "create_tags", Resources=[vpc], Tags=[{"Key": "k", "Value": "v"}])
call(ec2, "describe_tags", ["Tags.0.ResourceType"])
call(ec2, "delete_tags", Resources=[vpc], Tags=[{"Key": "k"}])

call(ec2, "delete_vpc_endpoints", VpcEndpointIds=[endpoint])
call(ec2, "delete_vpc_endpoint_service_configurations", ServiceIds=[service["ServiceId"]])
call(elb, "delete_listener", ListenerArn=listener)
call(elb, "delete_load_balancer", LoadBalancerArn=load_balancer)
call(elb, "delete_target_group", TargetGroupArn=behind)
at_once(elb, "load_balancers_deleted", LoadBalancerArns=[load_balancer])
call(elb, "deregister_targets", TargetGroupArn=target_group, Targets=[{"Id": "10.9.0.99"}])
at_once(elb, "target_deregistered", TargetGroupArn=target_group, Targets=[{"Id": "10.9.0.99"}])
call(elb, "delete_target_group", TargetGroupArn=target_group)
call(ec2, "delete_security_group", GroupId=group)
for subnet in subnets:
    call(ec2, "delete_subnet", SubnetId=subnet)
call(ec2, "delete_vpc", VpcId=vpc)

for line in problems:
    print(line, file=sys.stderr)
print(json.dumps(sorted(seen)))
sys.exit(1 if problems else 0)
