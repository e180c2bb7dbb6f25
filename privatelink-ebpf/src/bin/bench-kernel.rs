//! The benchmarks' kernel programs: a generator for live-frames test runs, the smallest programs that every figure is
//! compared with, and the far end, which answers handshakes and counts and drops everything else.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        EbpfContext as _,
        bindings::{TC_ACT_SHOT, xdp_action, xdp_md},
        helpers::generated::bpf_redirect,
        macros::{classifier, map, xdp},
        maps::{Array, DevMap, PerCpuArray},
        programs::{TcContext, XdpContext},
    };
    use privatelink_ebpf::{
        abi::bench::{
            COUNTS as COUNT_ENTRIES, Count, Cursor, FIRST_CLIENT_PORT, FLOWS_PER_CLIENT, FLOWS_PER_CLIENT_SHIFT,
            HEADERS, Traffic,
        },
        wire::{Window, checksum},
    };

    #[map]
    static TRAFFIC: Array<Traffic> = Array::with_max_entries(1, 0);
    #[map]
    static CURSOR: PerCpuArray<Cursor> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNT_ENTRIES, 0);
    #[map]
    static OUT: DevMap = DevMap::with_max_entries(1, 0);

    const SRC_IP: usize = 26;
    const SRC_PORT: usize = 34;
    const IP_CHECK: usize = 24;
    const TCP_SEQ: usize = 38;
    const TCP_ACK: usize = 42;
    const TCP_FLAGS: usize = 47;
    const TCP_CHECK: usize = 50;
    const SYN: u64 = 0x02;
    const SYN_ACK: u64 = 0x12;
    const ACK: u64 = 0x10;

    #[inline(always)]
    fn count(what: Count) {
        if let Some(count) = COUNTS.get_ptr_mut(what as u32) {
            // SAFETY: this CPU's own count.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn headers(ctx: &XdpContext) -> Option<Window<HEADERS>> {
        if ctx.data() + HEADERS > ctx.data_end() {
            return None;
        }
        // SAFETY: checked; the program owns the frame.
        Some(unsafe { Window::new(ctx.data() as *mut u8) })
    }

    /// Writes the next flow's whole header: the kernel hands the same pages out again as the pipeline left them.
    #[xdp]
    pub fn generate(ctx: XdpContext) -> u32 {
        let (Some(frame), Some(traffic), Some(cursor)) = (headers(&ctx), TRAFFIC.get(0), CURSOR.get_ptr_mut(0)) else {
            return xdp_action::XDP_ABORTED;
        };
        // SAFETY: this CPU's own cursor.
        let at = unsafe { *cursor };
        let (next, flow) = if traffic.order_bits == 0 {
            let next = at.wrapping_add(1);
            (if next >= traffic.flows { 0 } else { next }, at)
        } else {
            // A full-period congruential generator modulo a power of two, scaled down by its upper bits: within a
            // period every flow comes once, or twice, and neighbours are far apart.
            let bits = traffic.order_bits & 31;
            let next = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & ((1 << bits) - 1);
            (next, ((next as u64 * traffic.flows as u64) >> bits) as u32)
        };
        // SAFETY: as above.
        unsafe { *cursor = next };
        let header = &raw const traffic.headers;
        // SAFETY: the record is 64 bytes of a live map value, aligned to 8.
        let word = |i: usize| unsafe { header.cast::<u64>().add(i).read_volatile() };
        frame.store64::<0>(word(0));
        frame.store64::<8>(word(1));
        frame.store64::<16>(word(2));
        frame.store64::<24>(word(3));
        frame.store64::<32>(word(4));
        frame.store64::<40>(word(5));
        frame.store32::<48>(word(6) as u32);
        frame.store16::<52>((word(6) >> 32) as u16);
        let client = (flow >> FLOWS_PER_CLIENT_SHIFT) as u16;
        let port = (FIRST_CLIENT_PORT + (flow & (FLOWS_PER_CLIENT - 1)) as u16).to_be();
        // The client's number is added to the lower half of the first client's address, which has room for it.
        let low = u16::from_be(frame.load16::<{ SRC_IP + 2 }>());
        let address = checksum::difference16(low.to_be(), (low + client).to_be());
        frame.store16::<{ SRC_IP + 2 }>((low + client).to_be());
        frame.store16::<SRC_PORT>(port);
        frame.store16::<IP_CHECK>(checksum::apply(frame.load16::<IP_CHECK>(), address));
        frame.store16::<TCP_CHECK>(checksum::apply(frame.load16::<TCP_CHECK>(), address + port as u32));
        xdp_action::XDP_TX
    }

    /// The least that a program can do: count, and send out of the same device.
    #[xdp]
    pub fn smallest_tx(_ctx: XdpContext) -> u32 {
        count(Count::Seen);
        xdp_action::XDP_TX
    }

    /// The least that a program can do: count, and send out of another device.
    #[xdp]
    pub fn smallest_redirect(_ctx: XdpContext) -> u32 {
        count(Count::Seen);
        OUT.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED)
    }

    /// A far end that answers nothing.
    #[xdp]
    pub fn sink(_ctx: XdpContext) -> u32 {
        count(Count::Received);
        xdp_action::XDP_DROP
    }

    /// The same for frames that do not pass the device's XDP hook (`bpf_redirect_peer`).
    #[classifier]
    pub fn sink_tc(_ctx: TcContext) -> i32 {
        count(Count::Received);
        TC_ACT_SHOT as i32
    }

    /// The far end of a device, for clients and targets alike.
    #[xdp]
    pub fn far_end(ctx: XdpContext) -> u32 {
        let Some(frame) = headers(&ctx) else {
            count(Count::Other);
            return xdp_action::XDP_DROP;
        };
        let flags = frame.load8::<TCP_FLAGS>() as u64;
        if flags == ACK {
            count(Count::Received);
            return xdp_action::XDP_DROP;
        }
        let seq = frame.load32::<TCP_SEQ>();
        let ack = frame.load32::<TCP_ACK>();
        let next = u32::from_be(seq).wrapping_add(1).to_be();
        match flags {
            SYN => {
                count(Count::Accepted);
                answer(frame, flags, SYN_ACK, [seq, ack], [5000_u32.to_be(), next]);
            }
            SYN_ACK => {
                count(Count::Connected);
                answer(frame, flags, ACK, [seq, ack], [ack, next]);
            }
            _ => {
                count(Count::Other);
                return xdp_action::XDP_DROP;
            }
        }
        // Not XDP_TX: on a veth that wakes the peer only if the peer has an XDP program too.
        let context: *const xdp_md = ctx.as_ptr().cast();
        // SAFETY: the context is valid while the program runs; a helper without pointers.
        unsafe { bpf_redirect((*context).ingress_ifindex, 0) as u32 }
    }

    /// Turns the frame round with other flags and numbers.
    #[inline(always)]
    fn answer(frame: Window<HEADERS>, old_flags: u64, flags: u64, [seq, ack]: [u32; 2], [new_seq, new_ack]: [u32; 2]) {
        let (dst_mac, src_mac) = (frame.load64::<0>(), frame.load64::<6>());
        let mac = (1 << 48) - 1;
        // Eight bytes, of which the last two are the first of what is written next.
        frame.store64::<0>(src_mac & mac | dst_mac << 48);
        frame.store32::<8>(((dst_mac & mac) >> 16) as u32);
        let (src, dst) = (frame.load32::<SRC_IP>(), frame.load32::<{ SRC_IP + 4 }>());
        frame.store32::<SRC_IP>(dst);
        frame.store32::<{ SRC_IP + 4 }>(src);
        let ports = frame.load32::<SRC_PORT>();
        frame.store32::<SRC_PORT>(ports.rotate_left(16));
        frame.store32::<TCP_SEQ>(new_seq);
        frame.store32::<TCP_ACK>(new_ack);
        frame.store8::<TCP_FLAGS>(flags as u8);
        let difference = checksum::difference32(seq, new_seq)
            + checksum::difference32(ack, new_ack)
            + checksum::difference16((old_flags as u16).to_be(), (flags as u16).to_be());
        frame.store16::<TCP_CHECK>(checksum::apply(frame.load16::<TCP_CHECK>(), difference));
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
