//! The stage of SYN cookies.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::generated::bpf_xdp_adjust_tail,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::datapath::{Verdict, challenge, reset};

use super::{
    tables::Maps,
    tc::{finish, linear, send_back},
    xdp::{action, open, refused, whole},
};

#[classifier]
pub fn privatelink_tc_challenge(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match challenge::decide(linear(skb), Maps::<false>, ifindex) {
        Ok(answer) => finish(send_back(skb, &answer, ifindex)),
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: frame of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        // Other stages' verdicts.
        Err(
            Verdict::Pass
            | Verdict::ToTc
            | Verdict::AnswerArp
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::AnswerError(_)
            | Verdict::Proxy
            | Verdict::Challenge,
        ) => TC_ACT_OK as i32,
    }
}

#[xdp(frags)]
pub fn privatelink_xdp_challenge(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let packet = whole(&ctx, packet);
    match challenge::decide(packet, Maps::<true>, ifindex) {
        Ok(answer) => transmit(&ctx, packet.len, &answer).unwrap_or_else(refused),
        Err(verdict) => action(verdict),
    }
}

/// Replaces the frame by an answer, which is no longer, and sends it out of the port that it came in on.
#[inline(always)]
fn transmit(ctx: &XdpContext, len: usize, answer: &[u8; reset::SEGMENT_LEN]) -> Option<u32> {
    // SAFETY: a helper on the program's own context.
    if unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), reset::SEGMENT_LEN as i32 - len as i32) } != 0 {
        return None;
    }
    let (packet, _) = open(ctx);
    packet.write(0, *answer).then_some(xdp_action::XDP_TX)
}
