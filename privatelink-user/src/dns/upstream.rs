//! Asks other servers for what is not ours: one question each, nothing kept.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_server::proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
    serialize::binary::DecodeError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use crate::model::IpFamily;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at once; each has a socket of its own, whose port an attacker would have to guess.
const AT_ONCE: usize = 512;

/// The transport of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("'{0}' is not a name")]
    Name(String),
    #[error("the answer is {0}")]
    Failure(ResponseCode),
    #[error("there is no upstream")]
    None,
    #[error("{AT_ONCE} questions are under way")]
    Busy,
    #[error("{server} does not answer within {} s", PATIENCE.as_secs())]
    Timeout { server: SocketAddr },
    #[error("{server} cannot be asked: {source}")]
    Io { server: SocketAddr, source: io::Error },
    #[error("the answer of {server} is not DNS: {source}")]
    Malformed { server: SocketAddr, source: DecodeError },
}

/// The servers that are asked, in order; the next one if one does not answer.
#[derive(Debug)]
pub struct Upstreams {
    servers: Vec<SocketAddr>,
    under_way: Semaphore,
}

impl Upstreams {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, under_way: Semaphore::new(AT_ONCE) }
    }

    /// Nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The answer to `question`, which has one query; by TCP, it is whole. Its id is the question's.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] of the last server that was asked.
    pub async fn ask(&self, question: &Message, transport: Transport) -> Result<Message, UpstreamError> {
        let _permit = self.under_way.try_acquire().map_err(|_| UpstreamError::Busy)?;
        let mut last = UpstreamError::None;
        for server in &self.servers {
            match exchange(*server, question, transport).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Upstreams {
    /// The records of a kind of `name`, and of its aliases (CNAME); none if there are none or there is no such name.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, UpstreamError> {
        let asked = Name::from_ascii(format!("{name}.")).map_err(|error| UpstreamError::Name(error.to_string()))?;
        let mut question = Message::query();
        question.add_query(Query::query(asked, kind));
        question.metadata.recursion_desired = true;
        let mut answer = self.ask(&question, Transport::Udp).await?;
        if answer.metadata.truncation {
            answer = self.ask(&question, Transport::Tcp).await?;
        }
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer.answers),
            code => Err(UpstreamError::Failure(code)),
        }
    }

    /// The values of the TXT records of `name`, each with its strings joined (RFC 1464 has one string, SPF and longer
    /// values several); none if there are none or there is no such name.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`], also when the server answers with a failure.
    pub async fn text_records(&self, name: &str) -> Result<Vec<String>, UpstreamError> {
        let value = |record: &Record| match &record.data {
            RData::TXT(text) => {
                let strings = text.txt_data.iter().flat_map(|string| string.iter().copied()).collect::<Vec<u8>>();
                Some(String::from_utf8_lossy(&strings).into_owned())
            }
            _ => None,
        };
        Ok(self.records(name, RecordType::TXT).await?.iter().filter_map(value).collect())
    }

    /// The addresses of a family of `name`, behind its aliases (CNAME) too; none if there are none or there is no such
    /// name.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`], also when the server answers with a failure.
    pub async fn addresses(&self, name: &str, family: IpFamily) -> Result<Resolved, UpstreamError> {
        let kind = match family {
            IpFamily::Ipv4 => RecordType::A,
            IpFamily::Ipv6 => RecordType::AAAA,
        };
        let address = |record: &Record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        let records = self.records(name, kind).await?;
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        let addresses = records.iter().filter_map(address).filter(|found| IpFamily::of(*found) == family).collect();
        Ok(Resolved { addresses, ttl: Duration::from_secs(ttl.into()) })
    }
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// All of the family that was asked for.
    pub addresses: BTreeSet<IpAddr>,
    /// How long they may be kept: the least of the records' TTLs.
    pub ttl: Duration,
}

async fn exchange(server: SocketAddr, question: &Message, transport: Transport) -> Result<Message, UpstreamError> {
    // An id of its own: the client's is known to the client.
    let mut asked = question.clone();
    asked.metadata.id = rand::random();
    let io = |source| UpstreamError::Io { server, source };
    let bytes = asked.to_vec().map_err(|error| io(io::Error::other(error.to_string())))?;
    let answered = match transport {
        Transport::Udp => timeout(PATIENCE, by_udp(server, &asked, &bytes)).await,
        Transport::Tcp => timeout(PATIENCE, by_tcp(server, &bytes)).await,
    };
    let bytes = answered.map_err(|_| UpstreamError::Timeout { server })?.map_err(io)?;
    let mut answer = Message::from_vec(&bytes).map_err(|source| UpstreamError::Malformed { server, source })?;
    if !answers(&answer, &asked) {
        return Err(io(io::Error::new(io::ErrorKind::InvalidData, "it answers another question")));
    }
    answer.metadata.id = question.metadata.id;
    Ok(answer)
}

async fn by_udp(server: SocketAddr, asked: &Message, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        // What answers another question is a late answer or a forged one; the right one may still come.
        if Message::from_vec(datagram).is_ok_and(|answer| answers(&answer, asked)) {
            return Ok(datagram.to_vec());
        }
    }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whether `answer` is one to `question`: same id and, if it repeats the question, the same one.
fn answers(answer: &Message, question: &Message) -> bool {
    let same = |a: &Query, b: &Query| {
        a.query_type() == b.query_type()
            && a.query_class() == b.query_class()
            && a.name().to_lowercase() == b.name().to_lowercase()
    };
    let repeats =
        answer.queries.is_empty() || matches!((&*answer.queries, &*question.queries), ([a], [b]) if same(a, b));
    answer.metadata.id == question.metadata.id && repeats
}
