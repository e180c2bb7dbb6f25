//! Single connections, with the source address and port of one's choice.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The source address; unspecified lets the kernel choose.
    pub address: Ipv4Addr,
    /// The source port; 0 lets the kernel choose.
    pub port: u16,
}

impl Source {
    /// Whatever the kernel chooses.
    pub const ANY: Self = Self { address: Ipv4Addr::UNSPECIFIED, port: 0 };
}

/// Connects from `netns`; the stream's reads and writes time out after `timeout` too.
pub fn connect(netns: &Netns, source: Source, to: SocketAddrV4, timeout: Duration) -> Result<TcpStream> {
    let stream = netns.run(|| {
        let socket = socket(source)?;
        socket.connect_timeout(&to.into(), timeout)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    })?;
    let stream = stream.with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(timeout)).context("the read timeout")?;
    stream.set_write_timeout(Some(timeout)).context("the write timeout")?;
    Ok(stream)
}

/// An unconnected socket bound to `source`, in the namespace of the calling thread.
pub fn socket(source: Source) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let Source { address, port } = source;
    if port != 0 {
        socket.set_reuse_address(true)?;
    } else if !address.is_unspecified() {
        // The port is chosen at connect, by the whole 4-tuple: each address can have 64 thousand connections.
        set_bind_address_no_port(&socket)?;
    }
    if port != 0 || !address.is_unspecified() {
        socket.bind(&SocketAddrV4::new(address, port).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn set_bind_address_no_port(socket: &Socket) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, whose address and size are given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sends `text` and checks that the same comes back; returns how long that took.
pub fn echo(stream: &mut TcpStream, text: &[u8]) -> Result<Duration> {
    let started = Instant::now();
    stream.write_all(text).context("sending")?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).context("waiting for the echo")?;
    ensure!(back == text, "the echo differs: {:?}", String::from_utf8_lossy(&back));
    Ok(started.elapsed())
}

/// Reads up to the end of the line.
pub fn read_line(stream: &mut TcpStream) -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).context("waiting for a line")?;
        if byte[0] == b'\n' {
            return String::from_utf8(line).context("a line that is not UTF-8");
        }
        line.push(byte[0]);
    }
}

/// Sends `bytes` pseudo-random bytes through an echo server and compares the SHA-256 of both ways.
///
/// Returns the digest in hexadecimal; an error if what came back differs.
pub fn transfer(stream: &TcpStream, bytes: u64) -> Result<String> {
    let mut writing = stream.try_clone().context("a second handle")?;
    let mut reading = stream.try_clone().context("a second handle")?;
    let (sent, received) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut digest = Sha256::new();
            let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
            let mut chunk = vec![0; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                random.fill(&mut chunk[..length]);
                digest.update(&chunk[..length]);
                writing.write_all(&chunk[..length]).context("sending")?;
                left -= length as u64;
            }
            writing.shutdown(std::net::Shutdown::Write).context("ending the upload")?;
            Ok::<_, anyhow::Error>(digest.finalize())
        });
        let mut digest = Sha256::new();
        let mut chunk = vec![0; 64 * 1024];
        let mut received = || loop {
            match reading.read(&mut chunk).context("receiving")? {
                0 => return Ok::<_, anyhow::Error>(()),
                length => digest.update(&chunk[..length]),
            }
        };
        let end = received();
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        end?;
        Ok::<_, anyhow::Error>((sent?, digest.finalize()))
    })?;
    ensure!(sent == received, "{bytes} bytes came back changed: SHA-256 {received:x}, sent {sent:x}");
    Ok(format!("{sent:x}"))
}

/// The largest segment that this end sends (`TCP_MAXSEG`), which the peer's MSS option decides.
pub fn max_segment(stream: &TcpStream) -> Result<u32> {
    socket2::SockRef::from(stream).tcp_mss().context("TCP_MAXSEG")
}

/// Makes the coming close a reset.
pub fn reset_on_close(stream: &TcpStream) -> Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).context("SO_LINGER")
}

/// Marsaglia's xorshift64: quick and the same in every run.
struct Xorshift(u64);

impl Xorshift {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}
