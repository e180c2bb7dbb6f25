//! Where the programs go on an interface: the choice, and its reason.

use crate::net::{
    links::{Link, LinkKind},
    xdp_features::XdpFeatures,
};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookWish {
    Auto,
    Tc,
    Xdp,
}

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPlan {
    /// Traffic control only.
    Tc,
    /// Native XDP in front of traffic control where the driver has it; traffic control alone where it has not.
    PreferXdp,
    /// Native XDP in front of traffic control, or nothing.
    Xdp,
}

/// Where the programs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A tcx link (kernel 6.6 and later).
    Tcx,
    /// A filter of the clsact queueing discipline.
    Clsact,
    /// Native XDP in front of tcx.
    XdpTcx,
    /// Native XDP in front of clsact.
    XdpClsact,
}

impl Hook {
    pub const fn has_xdp(self) -> bool {
        match self {
            Self::Tcx | Self::Clsact => false,
            Self::XdpTcx | Self::XdpClsact => true,
        }
    }
}

/// A plan with what to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub plan: HookPlan,
    pub reason: String,
    /// Each with the command that changes it.
    pub warnings: Vec<String>,
}

/// Why an interface cannot be a port with the hook that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Loopback,
    NotEthernet {
        link_type: String,
    },
    /// Native XDP was asked for and cannot be.
    Xdp {
        why: String,
        way_out: String,
    },
}

/// The largest MTU of a veth pair that takes an XDP program: a frame and its headroom fit into one page.
pub const LARGEST_XDP_VETH_MTU: u32 = 3_498;

/// Chooses by what the interface is. `own_program` is the id of our XDP program, if it is on the interface already.
///
/// # Errors
///
/// [`Unfit`] with the reason.
pub fn choose(link: &Link, wish: HookWish, own_program: Option<u32>) -> Result<Choice, Unfit> {
    let type_name = match &link.kind {
        LinkKind::Loopback => return Err(Unfit::Loopback),
        LinkKind::Veth { .. } => "veth",
        LinkKind::Virtual(name) => name,
        LinkKind::Physical => "physical device",
    };
    if link.mac.is_none() {
        return Err(Unfit::NotEthernet { link_type: type_name.to_owned() });
    }
    let foreign = link.xdp.map(|xdp| xdp.program_id).filter(|id| Some(*id) != own_program);
    let tc = |reason: String| Ok(Choice { plan: HookPlan::Tc, reason, warnings: Vec::new() });
    match wish {
        HookWish::Tc => tc("TC was asked for".to_owned()),
        HookWish::Auto => match (&link.kind, foreign) {
            (_, Some(id)) => tc(format!("TC: the XDP program {id} of somebody else is on it")),
            (LinkKind::Veth { .. }, None) => {
                tc("TC: a veth carries partial checksums and segments to be split later, which XDP cannot see"
                    .to_owned())
            }
            (LinkKind::Virtual(name), None) => {
                tc(format!("TC: a {name} device has no complete frames of the wire, or no native XDP"))
            }
            (LinkKind::Physical, None) => Ok(Choice {
                plan: HookPlan::PreferXdp,
                reason: "native XDP if the driver takes it, TC otherwise: a NIC delivers complete checksums".to_owned(),
                warnings: Vec::new(),
            }),
            (LinkKind::Loopback, None) => Err(Unfit::Loopback),
        },
        HookWish::Xdp => forced_xdp(link, foreign),
    }
}

fn forced_xdp(link: &Link, foreign: Option<u32>) -> Result<Choice, Unfit> {
    let name = &link.name;
    if let Some(id) = foreign {
        return Err(Unfit::Xdp {
            why: format!("the XDP program {id} of somebody else is attached"),
            way_out: format!("detach it with `ip link set dev {name} xdp off`"),
        });
    }
    if link.xdp_features.is_some_and(|features| !features.native()) {
        return Err(Unfit::Xdp {
            why: "its driver runs no XDP programs".to_owned(),
            way_out: "attach the device below it".to_owned(),
        });
    }
    let mut warnings = Vec::new();
    match &link.kind {
        LinkKind::Veth { peer, elsewhere } => {
            if link.mtu > LARGEST_XDP_VETH_MTU {
                return Err(Unfit::Xdp {
                    why: format!("the MTU {} is larger than {LARGEST_XDP_VETH_MTU}, which fits a page", link.mtu),
                    way_out: format!("run `ip link set dev {name} mtu 1500` on both ends"),
                });
            }
            let place = if *elsewhere { " in its namespace" } else { "" };
            let peer = peer.map_or_else(|| "the other end".to_owned(), |peer| format!("the other end (index {peer})"));
            warnings.push(format!(
                "XDP cannot see that a checksum is still to be completed: turn that off on {peer}{place} with \
                 `ethtool -K <peer> tx off`; until then TCP stalls, and `privatelink stats` counts partial_checksum"
            ));
            if !link.xdp_features.is_some_and(XdpFeatures::transmits) {
                warnings.push(format!(
                    "{peer}{place} does not poll, so frames leave by {name} through TC only: `ethtool -K <peer> gro on` \
                     lets XDP send them"
                ));
            }
        }
        LinkKind::Virtual(_) | LinkKind::Physical | LinkKind::Loopback => {}
    }
    Ok(Choice { plan: HookPlan::Xdp, reason: "native XDP was asked for".to_owned(), warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::links::{Xdp, XdpMode};

    fn link(kind: LinkKind) -> Link {
        Link {
            ifindex: 7,
            name: "eth7".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 7]),
            mtu: 1500,
            kind,
            up: true,
            carrier: true,
            xdp: None,
            xdp_features: None,
        }
    }

    #[test]
    fn a_veth_gets_tc_and_a_nic_tries_xdp() {
        let veth = link(LinkKind::Veth { peer: Some(3), elsewhere: true });
        assert_eq!(choose(&veth, HookWish::Auto, None).map(|choice| choice.plan), Ok(HookPlan::Tc));
        let nic = link(LinkKind::Physical);
        assert_eq!(choose(&nic, HookWish::Auto, None).map(|choice| choice.plan), Ok(HookPlan::PreferXdp));
    }

    #[test]
    fn forced_xdp_on_a_veth_names_the_commands() {
        let veth = link(LinkKind::Veth { peer: Some(3), elsewhere: true });
        let choice = choose(&veth, HookWish::Xdp, None).expect("a veth takes XDP");
        assert!(choice.warnings.iter().any(|warning| warning.contains("ethtool -K <peer> tx off")));
        let jumbo = Link { mtu: 9000, ..veth };
        assert!(matches!(choose(&jumbo, HookWish::Xdp, None), Err(Unfit::Xdp { .. })));
    }

    #[test]
    fn a_foreign_xdp_program_is_left_alone() {
        let nic = Link { xdp: Some(Xdp { mode: XdpMode::Native, program_id: 42 }), ..link(LinkKind::Physical) };
        assert_eq!(choose(&nic, HookWish::Auto, None).map(|choice| choice.plan), Ok(HookPlan::Tc));
        assert!(matches!(choose(&nic, HookWish::Xdp, None), Err(Unfit::Xdp { why, .. }) if why.contains("42")));
        assert_eq!(choose(&nic, HookWish::Xdp, Some(42)).map(|choice| choice.plan), Ok(HookPlan::Xdp));
    }

    #[test]
    fn loopback_and_tunnels_are_no_ports() {
        assert_eq!(choose(&link(LinkKind::Loopback), HookWish::Auto, None), Err(Unfit::Loopback));
        let tunnel = Link { mac: None, ..link(LinkKind::Virtual("wireguard".to_owned())) };
        assert!(matches!(choose(&tunnel, HookWish::Tc, None), Err(Unfit::NotEthernet { .. })));
    }
}
