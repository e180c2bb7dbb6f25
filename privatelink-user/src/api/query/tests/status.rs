//! What a datapath that is behind shows.

use std::{thread, time::Duration};

use tokio::sync::watch;

use super::*;
use crate::{
    control::{Installed, Limits, status::CrowdedOut},
    model::{Hook, InterfaceName, State, TargetGroupId},
    runtime::{
        Answer, AttachRefusal, Explanation, FlowFilter, FlowRecord, InterfaceFacts, PortStatus, Question, Runtime,
        RuntimeError, Stats, TargetHealthReport, Usage,
    },
};

/// A datapath whose passes end when the test says so.
struct Behind(watch::Sender<Arc<Installed>>);

impl Behind {
    /// A pass over the state that the API has.
    fn pass(&self, rig: &Rig) {
        self.passed(rig, CrowdedOut::default());
    }

    fn passed(&self, rig: &Rig, crowded_out: CrowdedOut) {
        self.0.send_replace(Arc::new(Installed { state: rig.query.api.store.state(), crowded_out }));
    }
}

impl Runtime for Behind {
    fn installed(&self) -> Option<watch::Receiver<Arc<Installed>>> {
        Some(self.0.subscribe())
    }

    fn inspect_interface<'a>(
        &'a self,
        interface: &'a InterfaceName,
        hook: Hook,
        shared: bool,
    ) -> Answer<'a, Result<InterfaceFacts, AttachRefusal>> {
        NoRuntime.inspect_interface(interface, hook, shared)
    }

    fn limits(&self) -> Limits {
        NoRuntime.limits()
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

    fn stats(&self) -> Answer<'_, Result<Stats, RuntimeError>> {
        NoRuntime.stats()
    }

    fn usage<'a>(&'a self, state: &'a State) -> Answer<'a, Result<Usage, RuntimeError>> {
        NoRuntime.usage(state)
    }

    fn explain<'a>(
        &'a self,
        state: &'a State,
        question: &'a Question,
    ) -> Answer<'a, Result<Explanation, RuntimeError>> {
        NoRuntime.explain(state, question)
    }
}

#[test]
fn what_the_datapath_does_not_have_yet_is_pending_and_what_it_still_has_is_deleting() {
    let behind = Arc::new(Behind(watch::Sender::default()));
    let rig = Rig::in_front_of(Arc::clone(&behind) as Arc<dyn Runtime>);
    let (service, name) = rig.published();
    let lb = || text(&rig.elb(A, "Action=DescribeLoadBalancers"), "Code");
    let services = format!("Action=DescribeVpcEndpointServiceConfigurations&ServiceId.1={service}");
    let of_service = || text(&rig.ec2(A, &services), "serviceState");
    assert_eq!((lb(), of_service()), ("provisioning".to_owned(), "Pending".to_owned()));
    behind.pass(&rig);
    assert_eq!((lb(), of_service()), ("active".to_owned(), "Available".to_owned()));

    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let made = rig.ec2(A, &create);
    let endpoint = text(&made, "vpcEndpointId");
    assert_eq!(text(&made, "state"), "pendingAcceptance", "consent comes before the datapath");
    let accept = format!("Action=AcceptVpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={endpoint}");
    rig.ec2(A, &accept);
    let describe = format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}");
    let of_endpoint = || text(&rig.ec2(A, &describe), "state");
    let of_connection = || text(&rig.ec2(A, "Action=DescribeVpcEndpointConnections"), "vpcEndpointState");
    assert_eq!((of_endpoint(), of_connection()), ("pending".to_owned(), "pending".to_owned()));
    let pending = "Action=DescribeVpcEndpoints&Filter.1.Name=vpc-endpoint-state&Filter.1.Value.1=pending";
    assert_eq!(texts(&rig.ec2(A, pending), "vpcEndpointId"), [endpoint.clone()]);
    // Who asks while the pass is under way is told of its end.
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            behind.pass(&rig);
        });
        assert_eq!(of_endpoint(), "available");
    });

    behind.passed(
        &rig,
        CrowdedOut {
            endpoints: [endpoint.parse().expect("an id")].into(),
            listeners: rig.query.api.store.state().listeners.keys().cloned().collect(),
        },
    );
    let failed = rig.ec2(A, &describe);
    assert_eq!(
        (text(&failed, "state"), text(&failed, "code")),
        ("failed".to_owned(), "InsufficientCapacity".to_owned())
    );
    assert_eq!((lb(), of_service()), ("failed".to_owned(), "Failed".to_owned()));
    behind.pass(&rig);

    rig.ec2(A, &format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}"));
    assert_eq!((of_endpoint(), of_connection()), ("deleting".to_owned(), "deleting".to_owned()));
    assert_eq!(rig.refused(B, Service::Ec2, &describe).1, "InvalidVpcEndpointId.NotFound", "another's");
    behind.pass(&rig);
    assert_eq!(rig.refused(A, Service::Ec2, &describe).1, "InvalidVpcEndpointId.NotFound");
    rig.ec2(A, &format!("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1={service}"));
    assert_eq!(of_service(), "Deleting");
    behind.pass(&rig);
    assert_eq!(rig.refused(A, Service::Ec2, &services).1, "InvalidVpcEndpointServiceId.NotFound");
}
