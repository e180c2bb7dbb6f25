//! The stage of fragments.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::{Proto, Stage},
    datapath::{
        Frame as _, Relay, Verdict,
        fragment::{self, Fragment},
    },
    wire::{Ipv4Hdr, L3, Window},
};

use super::{
    packet::Packet,
    tables::Maps,
    tc::{self, finish, leave, linear},
    xdp::{self, action, open, send, whole},
};

#[classifier]
pub fn privatelink_tc_fragment(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match fragment::decide(linear(skb), Maps::<false>, ifindex) {
        Ok(Fragment::First(proto)) => {
            match proto {
                Proto::Tcp => tc::go_on(&ctx, Stage::Slow),
                Proto::Udp => tc::go_on(&ctx, Stage::Udp),
            }
            finish(None)
        }
        Ok(Fragment::Later(relay)) => finish(rewrite(linear(skb), &relay).map(|()| leave(relay.ifindex, relay.out))),
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: fragment of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::Pass | Verdict::ToTc) => TC_ACT_OK as i32,
        Err(Verdict::GoOn(stage)) => {
            tc::go_on(&ctx, stage);
            finish(None)
        }
        // Other stages' verdicts.
        Err(
            Verdict::AnswerArp
            | Verdict::Proxy
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::AnswerError(_)
            | Verdict::AnswerNeighbor,
        ) => finish(None),
    }
}

#[xdp(frags)]
pub fn privatelink_xdp_fragment(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    match fragment::decide(whole(&ctx, packet), Maps::<true>, ifindex) {
        Ok(Fragment::First(proto)) => {
            match proto {
                Proto::Tcp => xdp::go_on(&ctx, Stage::Slow),
                Proto::Udp => xdp::go_on(&ctx, Stage::Udp),
            }
            // Reached only while the agent has not put the stage's program in its place: TC does everything.
            xdp_action::XDP_PASS
        }
        Ok(Fragment::Later(relay)) => send(rewrite(packet, &relay), relay.ifindex, relay.out, ifindex),
        Err(verdict) => action(verdict),
    }
}

/// Changes addresses, TTL and IP checksum in place; in TC too, because the change makes none to the sum over the whole
/// packet.
#[inline(always)]
fn rewrite(packet: Packet, relay: &Relay) -> Option<()> {
    let Relay { src, dst, d_addr, src_mac, dst_mac, ifindex: _, out: _ } = *relay;
    let head: Window<{ L3 + Ipv4Hdr::LEN }> = packet.window(0)?;
    xdp::write_ip(head, src, dst, d_addr, src_mac, dst_mac);
    Some(())
}
