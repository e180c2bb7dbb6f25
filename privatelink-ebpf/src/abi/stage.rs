//! The programs that the attached ones go on in by tail call: one row a stage.
//!
//! Each stage has a stack and a verifier budget of its own. A stage that XDP lacks is TC's alone.

/// A stage's programs.
pub struct StageInfo {
    /// The stage's index in `STAGES_TC` and `STAGES_XDP`.
    pub stage: Stage,
    pub tc: &'static str,
    /// Nothing: XDP passes on to TC what this stage would do.
    pub xdp: Option<&'static str>,
}

/// A program of one hook, and where the hook's attached program finds it.
pub struct StageProgram {
    pub stage: Stage,
    pub name: &'static str,
    /// The table of programs.
    pub table: &'static str,
}

/// Every program of [`STAGES`].
pub fn programs() -> impl Iterator<Item = StageProgram> {
    STAGES.iter().flat_map(|&StageInfo { stage, tc, xdp }| {
        let tc = StageProgram { stage, name: tc, table: "STAGES_TC" };
        let xdp = xdp.map(|name| StageProgram { stage, name, table: "STAGES_XDP" });
        core::iter::once(tc).chain(xdp)
    })
}

macro_rules! stages {
    ($($(#[doc = $doc:literal])+ $stage:ident: $tc:literal, $xdp:expr;)+) => {
        /// Where a frame goes on that the attached program does not finish.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Stage {
            $($(#[doc = $doc])+ $stage,)+
        }

        impl Stage {
            /// The stage of an index; an index that is none is the first.
            #[inline(always)]
            pub const fn from_bits(bits: u8) -> Self {
                $(if bits == Self::$stage as u8 {
                    return Self::$stage;
                })+
                Self::Slow
            }
        }

        /// All stages, in the order of their indexes.
        pub const STAGES: &[StageInfo] = &[$(StageInfo { stage: Stage::$stage, tc: $tc, xdp: $xdp }),+];
    };
}

stages! {
    /// What no other stage is for: all but plain segments of established flows.
    Slow: "privatelink_tc_slow", Some("privatelink_xdp_slow");
    /// UDP over IPv4, all of it.
    Udp: "privatelink_tc_udp", Some("privatelink_xdp_udp");
    /// IPv4 fragments. The first of a packet goes on in the stage of its protocol.
    Fragment: "privatelink_tc_fragment", Some("privatelink_xdp_fragment");
    /// ICMP over IPv4, unfragmented. XDP keeps what is nobody's and hands the rest to TC.
    Icmp: "privatelink_tc_icmp", Some("privatelink_xdp_icmp");
    /// Makes an ICMP error of a frame that another stage has refused ([`Stage::Icmp`] is for those that arrive).
    IcmpError: "privatelink_tc_icmp_error", None;
    /// Segments of flows with a PROXY protocol header, but for the first SYN.
    Proxy: "privatelink_tc_proxy", None;
    /// SYNs above a half-open budget, which are answered with a cookie, and resets of no flow, which may bring one
    /// back.
    Challenge: "privatelink_tc_challenge", Some("privatelink_xdp_challenge");
    /// Sends what [`Stage::Proxy`] has decided about.
    ProxySend: "privatelink_tc_proxy_send", None;
    /// IPv6: plain packets of established flows.
    V6: "privatelink_tc_v6", Some("privatelink_xdp_v6");
    /// All other IPv6.
    V6Slow: "privatelink_tc_v6_slow", Some("privatelink_xdp_v6_slow");
    /// ICMP over IPv6 to an address of ours, but for neighbour discovery.
    Icmp6: "privatelink_tc_icmp6", None;
    /// Fragments that come before the first one of their packet, and first ones for which others wait.
    Wait: "privatelink_tc_wait", None;
    /// IPv4 packets of flows that go on in IPv6.
    ToIpv6: "privatelink_tc_to_ipv6", None;
    /// IPv6 packets of flows that go on in IPv4.
    ToIpv4: "privatelink_tc_to_ipv4", None;
    /// Answers that another stage has decided on: ARP, neighbour discovery, resets. They take much stack.
    Answer: "privatelink_tc_answer", None;
}
