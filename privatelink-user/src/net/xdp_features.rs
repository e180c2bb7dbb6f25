//! What each interface can do with XDP, as the kernel says it: the generic netlink family `netdev` (kernel 6.3,
//! `Documentation/netlink/specs/netdev.yaml`).

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
        sockopt,
    },
    time::TimeVal,
};

/// Bits of `NETDEV_A_DEV_XDP_FEATURES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// The driver runs XDP programs itself (`NETDEV_XDP_ACT_BASIC`).
    pub const fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// Frames that XDP redirects to the interface are sent (`NETDEV_XDP_ACT_NDO_XMIT`). A veth can do so only while its
    /// other end polls.
    pub const fn transmits(self) -> bool {
        self.0 & 4 != 0
    }
}

const CONTROL_FAMILY: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
const DEVICE_GET: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
/// The kernel answers at once; this ends a wait that nothing would.
const PATIENCE: TimeVal = TimeVal::new(1, 0);

/// The features of every interface of the namespace.
///
/// # Errors
///
/// `NotFound` before kernel 6.3, which has no such family.
pub fn all() -> io::Result<BTreeMap<u32, XdpFeatures>> {
    let socket = open()?;
    let family = messages(&socket, &request(CONTROL_FAMILY, REQUEST, CONTROL_GET_FAMILY, &name_attribute()), false)?
        .iter()
        .find_map(|message| {
            let bytes = attribute(message, CONTROL_FAMILY_ID)?;
            Some(u16::from_ne_bytes(bytes.try_into().ok()?))
        })
        .ok_or(io::ErrorKind::NotFound)?;
    let devices = messages(&socket, &request(family, REQUEST | DUMP, DEVICE_GET, &[]), true)?;
    Ok(devices.iter().filter_map(|message| device(message)).collect())
}

fn device(message: &[u8]) -> Option<(u32, XdpFeatures)> {
    let ifindex = u32::from_ne_bytes(attribute(message, DEVICE_IFINDEX)?.try_into().ok()?);
    let features = u64::from_ne_bytes(attribute(message, DEVICE_XDP_FEATURES)?.try_into().ok()?);
    Some((ifindex, XdpFeatures(features)))
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn name_attribute() -> Vec<u8> {
    let name = b"netdev\0";
    let mut bytes = Vec::with_capacity(12);
    bytes.extend((4 + name.len() as u16).to_ne_bytes());
    bytes.extend(CONTROL_FAMILY_NAME.to_ne_bytes());
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn request(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + GENERIC_HEADER + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Sends a request and returns the attributes of each answer; those of a dump until its end.
fn messages(socket: &OwnedFd, request: &[u8], dump: bool) -> io::Result<Vec<Vec<u8>>> {
    sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, payload, next)) = split(rest) {
            rest = next;
            match kind {
                DONE => return Ok(answers),
                ERROR => {
                    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return match code {
                        0 => Ok(answers),
                        code if -code == libc::ENOENT => Err(io::ErrorKind::NotFound.into()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                _ => answers.push(payload.get(GENERIC_HEADER..).unwrap_or_default().to_vec()),
            }
        }
        if !dump {
            return Ok(answers);
        }
    }
}

/// The first netlink message: its type, its payload, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, payload, next))
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        // A length below the header's own is none, and ends the search.
        let payload = bytes.get(4..length)?;
        if kind == wanted {
            return Some(payload);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_cut_ones_are_not() {
        let mut bytes = Vec::new();
        for (kind, value) in [(1u16, 7u32), (9, 8), (3, 9)] {
            bytes.extend(8u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
        }
        assert_eq!(attribute(&bytes, 3), Some(&9u32.to_ne_bytes()[..]));
        assert_eq!(attribute(&bytes, 4), None);
        assert_eq!(attribute(&bytes[..bytes.len() - 1], 3), None);
        assert_eq!(attribute(&[0; 16], 3), None);
    }

    #[test]
    fn this_kernel_tells_or_has_no_such_family() {
        match all() {
            Ok(found) => assert!(found.contains_key(&1), "the loopback interface is missing in {found:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}
