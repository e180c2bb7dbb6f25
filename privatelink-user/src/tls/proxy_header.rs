//! The PROXY protocol header that the datapath puts before a connection to the relay, and the one that the relay puts
//! before its own to a target (behaviour as of a Network Load Balancer; the specification's version 2).

use std::net::{Ipv4Addr, SocketAddrV4};

use privatelink_ebpf::{abi::L4Port, wire::proxy_v2};
use thiserror::Error;

/// Who connected, as the datapath says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub client: SocketAddrV4,
    /// The endpoint's or the load balancer's address and port that the client connected to.
    pub front: SocketAddrV4,
    /// The endpoint's id; none for a client of the load balancer's own VPC.
    pub endpoint: Option<String>,
}

/// What a connection began with instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("no PROXY protocol header of version 2")]
    NoHeader,
    #[error("a PROXY protocol header of {0} bytes, which is none of the datapath's")]
    Length(u16),
    #[error("a PROXY protocol header that ends within a field")]
    Cut,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
pub const HEAD: usize = 16;
/// More than any header of the datapath has.
const LONGEST: u16 = 512;
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const AWS: u8 = 0xea;
const AWS_VPCE_ID: u8 = 0x01;

/// What the first [`HEAD`] bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A client's connection; as many bytes follow.
    Proxied(usize),
    /// The load balancer's own, for a health check; as many bytes follow.
    Local(usize),
}

impl Head {
    /// # Errors
    ///
    /// If it is no header, or one of another family or of unlikely length.
    pub fn read(bytes: &[u8; HEAD]) -> Result<Self, HeaderError> {
        let [rest @ .., command, family, high, low] = bytes;
        if rest != &SIGNATURE {
            return Err(HeaderError::NoHeader);
        }
        let length = u16::from_be_bytes([*high, *low]);
        if length > LONGEST {
            return Err(HeaderError::Length(length));
        }
        match (*command, *family) {
            (LOCAL, _) => Ok(Self::Local(length.into())),
            (PROXY, TCP4) => Ok(Self::Proxied(length.into())),
            _ => Err(HeaderError::NoHeader),
        }
    }
}

impl Origin {
    /// Reads what follows a head that says [`Head::Proxied`].
    ///
    /// # Errors
    ///
    /// [`HeaderError::Cut`].
    pub fn read(body: &[u8]) -> Result<Self, HeaderError> {
        let (addresses, mut tlvs) = body.split_first_chunk::<12>().ok_or(HeaderError::Cut)?;
        let [a, b, c, d, e, f, g, h, client_high, client_low, front_high, front_low] = *addresses;
        let port = |high, low| u16::from_be_bytes([high, low]);
        let client = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port(client_high, client_low));
        let front = SocketAddrV4::new(Ipv4Addr::new(e, f, g, h), port(front_high, front_low));
        let mut endpoint = None;
        while let Some(([kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
            let (value, rest) = rest.split_at_checked(port(*high, *low).into()).ok_or(HeaderError::Cut)?;
            if let (AWS, [AWS_VPCE_ID, id @ ..]) = (*kind, value) {
                endpoint = Some(String::from_utf8_lossy(id).into_owned());
            }
            tlvs = rest;
        }
        if tlvs.is_empty() { Ok(Self { client, front, endpoint }) } else { Err(HeaderError::Cut) }
    }

    /// The header for a target that asks for one: the datapath's own.
    pub fn header(&self) -> [u8; proxy_v2::LEN] {
        let Self { client, front, endpoint } = self;
        let mut id = [0; proxy_v2::ENDPOINT_ID];
        for (to, from) in id.iter_mut().zip(endpoint.iter().flat_map(|endpoint| endpoint.bytes())) {
            *to = from;
        }
        let mut header = [0; proxy_v2::LEN];
        let port = L4Port::new;
        proxy_v2::build(
            &mut header,
            (*client.ip()).into(),
            port(client.port()),
            (*front.ip()).into(),
            port(front.port()),
            &id,
        );
        header
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Origin>, HeaderError> {
        let (head, body) = bytes.split_first_chunk::<HEAD>().ok_or(HeaderError::Cut)?;
        match Head::read(head)? {
            Head::Proxied(length) => Origin::read(body.get(..length).ok_or(HeaderError::Cut)?).map(Some),
            Head::Local(_) => Ok(None),
        }
    }

    proptest! {
        /// What the datapath writes is read as it was meant.
        #[test]
        fn headers_are_read_as_written(client: [u8; 4], from: u16, front: [u8; 4], to: u16, endpoint: bool) {
            let endpoint = endpoint.then(|| "vpce-0123456789abcdef0".to_owned());
            let origin = Origin {
                client: SocketAddrV4::new(client.into(), from),
                front: SocketAddrV4::new(front.into(), to),
                endpoint,
            };
            prop_assert_eq!(read(&origin.header()), Ok(Some(origin)));
        }

        /// Nothing makes it panic, and nothing but a header is one.
        #[test]
        fn hostile_bytes_are_refused(mut bytes: Vec<u8>, signed: bool) {
            if signed {
                let header = SIGNATURE.into_iter().chain([PROXY, TCP4, 0, bytes.len().min(255) as u8]);
                bytes = header.chain(bytes).collect();
            }
            if let Ok(origin) = read(&bytes) {
                prop_assert!(bytes.starts_with(&SIGNATURE), "{:?}", origin);
            }
        }
    }

    #[test]
    fn a_check_names_nobody() {
        assert_eq!(read(&proxy_v2::LOCAL), Ok(None));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(HeaderError::NoHeader));
    }
}
