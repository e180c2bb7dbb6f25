//! Frames that no honest stack would send: forged resets, floods.

use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::link::End;

/// Which TCP segment to forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The first of a connection.
    Syn,
    /// A reset.
    Rst,
    /// An acknowledgement out of the blue.
    Ack,
}

/// A frame to forge.
#[derive(Clone, Copy, Debug)]
pub struct Forged {
    /// Ethernet source.
    pub from_mac: [u8; 6],
    /// Ethernet destination.
    pub to_mac: [u8; 6],
    /// IP source and TCP source port.
    pub from: SocketAddrV4,
    /// IP destination and TCP destination port.
    pub to: SocketAddrV4,
    /// The flags.
    pub segment: Segment,
    /// The sequence number.
    pub sequence: u32,
}

impl Forged {
    /// The bytes, with correct checksums.
    pub fn frame(&self) -> Result<Vec<u8>> {
        let Self { from_mac, to_mac, from, to, segment, sequence } = *self;
        let tcp = PacketBuilder::ethernet2(from_mac, to_mac).ipv4(from.ip().octets(), to.ip().octets(), 64).tcp(
            from.port(),
            to.port(),
            sequence,
            64_240,
        );
        let tcp = match segment {
            Segment::Syn => tcp.syn().options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)])?,
            Segment::Rst => tcp.rst(),
            Segment::Ack => tcp.ack(1),
        };
        let mut frame = Vec::with_capacity(tcp.size(0));
        tcp.write(&mut frame, &[]).context("building a frame")?;
        Ok(frame)
    }
}

/// Sends raw frames out of one interface.
#[derive(Debug)]
pub struct Injector(OwnedFd);

impl Injector {
    /// Opens a packet socket on `link`.
    pub fn new(link: &End) -> Result<Self> {
        let open = || {
            // Protocol 0: it sends only, and never has to look at what arrives.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(&socket, &link.name, 0)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = link.netns.run(open)?;
        socket.map(Self).with_context(|| format!("a packet socket on {} in {}", link.name, link.netns.name()))
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is live and its length is given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends segments like `template` from ever new addresses and ports, as [`Injector::storm`] does. Sources are
    /// 10.0.128.0/17: nobody's addresses, so no reset answers for them.
    pub fn flood(&self, template: Forged, stop: impl Fn() -> bool) -> Result<u64> {
        let forged = |random: u32| {
            let [a, b, c, d] = random.to_be_bytes();
            let from = SocketAddrV4::new([10, 0, 128 | a, b].into(), 1024 | u16::from_be_bytes([c, d]));
            Forged { from, sequence: random, ..template }.frame()
        };
        self.storm(forged, stop)
    }

    /// Sends what `frame` makes of ever new numbers as fast as this thread can, until `stop` says so; returns how many.
    pub fn storm(&self, frame: impl Fn(u32) -> Result<Vec<u8>>, stop: impl Fn() -> bool) -> Result<u64> {
        let mut sent = 0;
        let mut random: u32 = 0x2545_f491;
        while !stop() {
            for _ in 0..256 {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                match self.send(&frame(random)?) {
                    Ok(()) => sent += 1,
                    // The device's queue is full: that is as fast as it goes.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(error) => return Err(error).context("sending a forged frame"),
                }
            }
        }
        Ok(sent)
    }
}

/// Sees the frames that arrive at one interface, before its host's own stack and firewall do.
#[derive(Debug)]
pub struct Sniffer(OwnedFd);

impl Sniffer {
    /// Listens on `link` from now on, to IPv4 packets of one protocol: what a transfer sends besides would fill the
    /// socket.
    pub fn new(link: &End, protocol: u8) -> Result<Self> {
        /// `PACKET_IGNORE_OUTGOING` (linux/if_packet.h).
        const IGNORE_OUTGOING: libc::c_int = 23;
        let open = || {
            let every = (libc::ETH_P_ALL as u16).to_be();
            // SAFETY: no pointers; the descriptor is checked and owned by nobody else.
            let socket = unsafe {
                let raw = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::c_int::from(every));
                if raw < 0 {
                    return Err(io::Error::last_os_error());
                }
                OwnedFd::from_raw_fd(raw)
            };
            let on: libc::c_int = 1;
            // SAFETY: the option takes an int, whose address and size are given.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    IGNORE_OUTGOING,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
            filter(&socket, protocol)?;
            bind(&socket, &link.name, every)?;
            Ok(socket)
        };
        let socket = link.netns.run(open)?;
        socket.map(Self).with_context(|| format!("listening on {} in {}", link.name, link.netns.name()))
    }

    /// The next frame that is `wanted`, if one comes before `limit` is over.
    pub fn next(&self, limit: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let started = Instant::now();
        loop {
            let Some(left) = limit.checked_sub(started.elapsed()) else { return Ok(None) };
            let mut ready = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one live descriptor.
            let polled = unsafe { libc::poll(&raw mut ready, 1, i32::try_from(left.as_millis()).unwrap_or(i32::MAX)) };
            if polled <= 0 {
                return Ok(None);
            }
            let mut frame = vec![0; 1 << 16];
            // SAFETY: the buffer is live and its length is given.
            let len = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            frame.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error()).context("receiving a frame")?);
            if wanted(&frame) {
                return Ok(Some(frame));
            }
        }
    }
}

/// Lets IPv4 packets of `protocol` through to a packet socket, whole.
fn filter(socket: &OwnedFd, protocol: u8) -> io::Result<()> {
    let code = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Half word 12, byte 23; the verdicts are how many bytes to keep.
    let mut program = [
        code(0x28, 0, 0, 12),
        code(0x15, 0, 3, 0x0800),
        code(0x30, 0, 0, 23),
        code(0x15, 0, 1, protocol.into()),
        code(0x06, 0, 0, u32::MAX),
        code(0x06, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is live, and the option takes what its address and size are given of.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a packet socket to an interface of the calling thread's namespace; `protocol` in network order, 0 for none.
fn bind(socket: &OwnedFd, interface: &str, protocol: u16) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: an all-zero sockaddr_ll is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the address is live and its size is given.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A `stop` for [`Injector::flood`] that ends it after `limit`.
pub fn after(limit: Duration) -> impl Fn() -> bool {
    let started = Instant::now();
    move || started.elapsed() >= limit
}
