//! How one relay takes the listening sockets of another: the old one sends a head with its configuration and the keys
//! of session tickets, then a frame for each listener whose first byte carries the socket (`SCM_RIGHTS`, unix(7)). What
//! is waiting in a socket's queue waits for the new one, so no connection is refused. The old one keeps its open
//! connections.
//!
//! Both say by which protocol they do that. Who hears of another one takes and gives nothing, and the old one serves
//! on.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::wire::{self, Request};
use crate::{model::ListenerId, tls::tickets::TicketKeys};

/// Which protocol this is. Raised when the order or meaning of the frames changes; what the head holds may change
/// without that.
pub const PROTOCOL: u32 = 1;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What goes over first, after its [`Version`]. Each part is JSON of its own: another version's is of no use, its
/// sockets are.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    protocol: u32,
    #[serde(default)]
    config: Option<String>,
    #[serde(default)]
    tickets: Option<String>,
    #[serde(default)]
    sockets: usize,
}

/// What every head has, of whatever protocol.
#[derive(Debug, Deserialize)]
struct Version {
    protocol: u32,
}

/// What goes over.
#[derive(Debug, Default)]
pub struct Estate {
    pub config: Option<wire::Config>,
    pub tickets: BTreeMap<ListenerId, TicketKeys>,
    pub sockets: Vec<(ListenerId, OwnedFd)>,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    #[error(
        "the relay that runs passes its sockets on by protocol {theirs}, this one takes them by protocol {PROTOCOL}"
    )]
    Protocol { theirs: u32 },
    #[error("the relay that runs does not know how to pass its sockets on to this one")]
    Unknown,
    #[error("the relay that runs passes nothing on: {0}")]
    Stream(#[from] io::Error),
}

/// Passes everything on.
///
/// # Errors
///
/// The stream's.
pub fn give(stream: &UnixStream, estate: &Estate) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let Estate { config, tickets, sockets } = estate;
    let config = config.as_ref().map(serde_json::to_string).transpose()?;
    let tickets = Some(serde_json::to_string(tickets)?);
    let mut to = stream;
    to.write_all(&wire::frame(&Head { protocol: PROTOCOL, config, tickets, sockets: sockets.len() })?)?;
    for (listener, socket) in sockets {
        let frame = wire::frame(listener)?;
        let (first, rest) = frame.split_at(1);
        let sockets = [socket.as_raw_fd()];
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

/// Says by which protocol something would be passed on, and passes nothing on.
///
/// # Errors
///
/// The stream's.
pub fn decline(mut stream: &UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::frame(&Head { protocol: PROTOCOL, config: None, tickets: None, sockets: 0 })?)
}

/// Asks the relay at the other end for everything.
///
/// # Errors
///
/// [`HandOverError`]
pub fn take(mut stream: &UnixStream) -> Result<Estate, HandOverError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::frame(&Request::HandOver { protocol: PROTOCOL })?)?;
    let mut first = [0; 1];
    stream.read_exact(&mut first).map_err(|error| match error.kind() {
        // It has closed instead of answering.
        io::ErrorKind::UnexpectedEof => HandOverError::Unknown,
        _ => HandOverError::Stream(error),
    })?;
    let body = rest(stream, first)?;
    let Version { protocol } = wire::parse(&body).map_err(|_| HandOverError::Unknown)?;
    if protocol != PROTOCOL {
        return Err(HandOverError::Protocol { theirs: protocol });
    }
    let Head { protocol: _, config, tickets, sockets } = wire::parse(&body)?;
    let mut taken = Estate { config: known(config), tickets: known(tickets).unwrap_or_default(), sockets: Vec::new() };
    for _ in 0..sockets {
        let (first, socket) = with_socket(stream)?;
        let listener = wire::parse(&rest(stream, first)?)?;
        taken.sockets.push((listener, socket));
    }
    Ok(taken)
}

/// A part of the head, if it is one that this version knows.
fn known<T: DeserializeOwned>(part: Option<String>) -> Option<T> {
    serde_json::from_str(&part?).ok()
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
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;
    use crate::tls::tickets::Tickets;

    fn id() -> ListenerId {
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/net/web/0123456789abcdef/fedcba9876543210"
            .parse()
            .expect("a listener")
    }

    /// What `answer` makes of a relay that is asked for everything.
    fn asked(answer: impl FnOnce(&UnixStream) + Send) -> Result<Estate, HandOverError> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut asked = vec![0; wire::frame(&Request::HandOver { protocol: PROTOCOL }).expect("a frame").len()];
                (&theirs).read_exact(&mut asked).expect("asked");
                answer(&theirs);
            });
            take(&ours)
        })
    }

    #[test]
    fn a_socket_goes_over_with_what_waits_in_it_and_the_keys_of_its_tickets() {
        use rustls::server::ProducesTickets as _;
        let listening = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listening.local_addr().expect("an address");
        let mut waiting = TcpStream::connect(address).expect("connected");
        waiting.write_all(b"x").expect("written");
        let tickets = Tickets::new(None).expect("randomness");
        let ticket = tickets.encrypt(b"a session").expect("a ticket");
        let estate = Estate {
            config: None,
            tickets: BTreeMap::from([(id(), tickets.keys())]),
            sockets: vec![(id(), listening.into())],
        };
        let taken = asked(|theirs| give(theirs, &estate).expect("given")).expect("taken");
        assert!(taken.config.is_none());
        let known = Tickets::new(taken.tickets.get(&id())).expect("randomness");
        assert_eq!(known.decrypt(&ticket).as_deref(), Some(b"a session".as_slice()));
        let [(_, socket)] = <[_; 1]>::try_from(taken.sockets).expect("one socket");
        let (mut stream, _) = TcpListener::from(socket).accept().expect("what was waiting");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("read");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn another_protocol_is_refused_by_name() {
        let say = |text: &'static str| {
            move |mut theirs: &UnixStream| {
                let length = u32::try_from(text.len()).expect("short").to_be_bytes();
                theirs.write_all(&[&length, text.as_bytes()].concat()).expect("said");
            }
        };
        let newer = asked(say(r#"{"protocol": 7, "doors": {"of": "another kind"}}"#)).expect_err("refused");
        assert!(matches!(newer, HandOverError::Protocol { theirs: 7 }), "{newer}");
        assert!(newer.to_string().contains("protocol 7, this one takes them by protocol 1"), "{newer}");
        // What this one is asked for by another protocol, it says by its own.
        let declined = asked(|theirs| decline(theirs).expect("said")).expect("the same protocol");
        assert!(declined.sockets.is_empty());
        let silent = asked(|_| {}).expect_err("refused");
        assert!(matches!(silent, HandOverError::Unknown), "{silent}");
        let other = asked(say(r#"{"sockets": 1}"#)).expect_err("refused");
        assert!(matches!(other, HandOverError::Unknown), "{other}");
    }

    #[test]
    fn what_is_not_known_of_a_head_is_left_and_the_sockets_come() {
        let listening = TcpListener::bind("127.0.0.1:0").expect("bound");
        let taken = asked(|theirs| {
            let head =
                serde_json::json!({"protocol": PROTOCOL, "config": "{\"of\": 1}", "tickets": "[]", "sockets": 1});
            let mut to = theirs;
            to.write_all(&wire::frame(&head).expect("a frame")).expect("written");
            let frame = wire::frame(&id()).expect("a frame");
            let (first, rest) = frame.split_at(1);
            let sockets = [listening.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&sockets)];
            sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(first)], &rights, MsgFlags::empty(), None).expect("sent");
            to.write_all(rest).expect("written");
        });
        let Estate { config, tickets, sockets } = taken.expect("taken");
        assert!(config.is_none() && tickets.is_empty());
        assert_eq!(sockets.len(), 1);
    }
}
