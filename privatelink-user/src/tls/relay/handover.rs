//! How one relay takes the listening sockets of another: the old one sends its configuration, then a frame for each listener
//! whose first byte carries the socket (`SCM_RIGHTS`, unix(7)). What is waiting in a socket's queue waits for the new one, so
//! no connection is refused. The old one keeps its open connections.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::wire::{self, Request};
use crate::model::ListenerId;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What goes over first.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// As JSON of its own: another version's is of no use, its sockets are.
    config: Option<String>,
    sockets: usize,
}

/// What was taken over.
#[derive(Debug, Default)]
pub struct Taken {
    pub config: Option<wire::Config>,
    pub sockets: Vec<(ListenerId, OwnedFd)>,
}

/// Passes configuration and sockets on.
///
/// # Errors
///
/// The stream's.
pub fn give(stream: &UnixStream, config: Option<&wire::Config>, sockets: &[(ListenerId, RawFd)]) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let config = config.map(serde_json::to_string).transpose()?;
    let mut to = stream;
    to.write_all(&wire::frame(&Head { config, sockets: sockets.len() })?)?;
    for (listener, socket) in sockets {
        let frame = wire::frame(listener)?;
        let (first, rest) = frame.split_at(1);
        let sockets = [*socket];
        sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(first)],
            &[ControlMessage::ScmRights(&sockets)],
            MsgFlags::empty(),
            None,
        )?;
        to.write_all(rest)?;
    }
    Ok(())
}

/// Asks the relay at the other end for everything.
///
/// # Errors
///
/// The stream's; [`io::ErrorKind::InvalidData`] for what is no hand-over.
pub fn take(mut stream: &UnixStream) -> io::Result<Taken> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::frame(&Request::HandOver)?)?;
    let mut first = [0; 1];
    stream.read_exact(&mut first)?;
    let Head { config, sockets } = wire::parse(&rest(stream, first)?)?;
    let mut taken = Taken { config: config.and_then(|text| serde_json::from_str(&text).ok()), sockets: Vec::new() };
    for _ in 0..sockets {
        let (first, socket) = with_socket(stream)?;
        let listener = wire::parse(&rest(stream, first)?)?;
        taken.sockets.push((listener, socket));
    }
    Ok(taken)
}

/// The body of a frame whose first byte has been read.
fn rest(mut stream: &UnixStream, first: [u8; 1]) -> io::Result<Vec<u8>> {
    let mut length = [first[0], 0, 0, 0];
    stream.read_exact(&mut length[1..])?;
    let mut body = vec![0; wire::checked_length(u32::from_be_bytes(length))?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// One byte, and the socket that came with it.
fn with_socket(stream: &UnixStream) -> io::Result<([u8; 1], OwnedFd)> {
    let mut first = [0; 1];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut buffers = [IoSliceMut::new(&mut first)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let received = message.bytes;
    let mut found = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(sockets) = control {
            found = sockets.into_iter().map(owned).next_back().or(found);
        }
    }
    match found {
        Some(socket) if received == 1 => Ok((first, socket)),
        Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A descriptor that the kernel has just made for us.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) made this descriptor for this process, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_goes_over_with_what_waits_in_it() {
        let id: ListenerId =
            "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/net/web/0123456789abcdef/fedcba9876543210"
                .parse()
                .expect("a listener");
        let listening = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listening.local_addr().expect("an address");
        let mut waiting = TcpStream::connect(address).expect("connected");
        waiting.write_all(b"x").expect("written");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let given = std::thread::spawn(move || {
            let mut asked = vec![0; wire::frame(&Request::HandOver).expect("a frame").len()];
            (&theirs).read_exact(&mut asked).expect("asked");
            give(&theirs, None, &[(id, listening.as_raw_fd())]).expect("given");
        });
        let Taken { config, sockets } = take(&ours).expect("taken");
        given.join().expect("no panic");
        assert!(config.is_none());
        let [(_, socket)] = <[_; 1]>::try_from(sockets).expect("one socket");
        let (mut stream, _) = TcpListener::from(socket).accept().expect("what was waiting");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("read");
        assert_eq!(&byte, b"x");
    }
}
