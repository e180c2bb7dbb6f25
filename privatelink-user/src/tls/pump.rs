//! Bytes between a client's TLS and a target, until both have ended, one breaks off or both have been silent for too
//! long.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// How a relayed connection ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// Nothing came from either side for the idle timeout.
    Idle,
    /// A side broke off.
    Failed(io::Error),
}

/// What was relayed.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the client to the target.
    pub up: u64,
    /// Bytes from the target to the client.
    pub down: u64,
    pub end: End,
}

/// Relays both ways. A side that closes its half is passed on as such; the other half goes on. An idle connection takes
/// no more memory than its two ends do.
pub async fn relay<C, T>(mut client: C, mut target: T, idle: Duration) -> Relayed
where
    C: AsyncBufRead + AsyncWrite + Unpin,
    T: AsyncBufRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Way::default(), Way::default());
    // The timer is set anew only when it goes off: that is once in a while, and bytes come all the time.
    let mut last = Instant::now();
    let mut deadline = Box::pin(sleep_until(last + idle));
    let end = poll_fn(|context| {
        let before = (up.bytes, down.bytes);
        let ended = match (up.poll(context, &mut client, &mut target), down.poll(context, &mut target, &mut client)) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(End::Failed(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => true,
            (Poll::Pending, _) | (_, Poll::Pending) => false,
        };
        if ended {
            return Poll::Ready(End::Closed);
        }
        if before != (up.bytes, down.bytes) {
            last = Instant::now();
        }
        loop {
            ready!(deadline.as_mut().poll(context));
            if last + idle <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            deadline.as_mut().reset(last + idle);
        }
    })
    .await;
    Relayed { up: up.bytes, down: down.bytes, end }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    bytes: u64,
    /// Written and perhaps not sent yet.
    unflushed: bool,
    stage: Stage,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Copying,
    /// The reader has ended; the writer is told.
    Closing,
    Closed,
}

/// What one direction moves before the other has its turn.
const TURN: u64 = 1 << 20;

impl Way {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncBufRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        let until = self.bytes + TURN;
        while self.stage == Stage::Copying {
            if self.bytes >= until {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match Pin::new(&mut *from).poll_fill_buf(context)? {
                Poll::Ready([]) => self.stage = Stage::Closing,
                Poll::Ready(bytes) => {
                    let written = ready!(Pin::new(&mut *to).poll_write(context, bytes))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Pin::new(&mut *from).consume(written);
                    self.bytes += written as u64;
                    self.unflushed = true;
                }
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(context))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.stage == Stage::Closing {
            ready!(Pin::new(to).poll_shutdown(context))?;
            self.stage = Stage::Closed;
        }
        Poll::Ready(Ok(()))
    }
}

/// As much as a socket is read at a time.
const CHUNK: usize = 64 << 10;

/// Room for what a socket is read into. It is the thread's before and after, so that reading neither asks for memory
/// nor clears it, and a connection has some only while it holds bytes that the other side does not take yet.
#[derive(Debug)]
struct Chunk(Box<[u8]>);

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

impl Chunk {
    /// How many a thread keeps; it needs one for each direction that it is moving bytes in.
    const KEPT: usize = 4;

    fn take() -> Self {
        Self(SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice()))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        // A thread that ends has none to keep.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < Self::KEPT {
                spare.push(bytes);
            }
        });
    }
}

/// A stream that is read in chunks, however little is asked for at a time, and has room for one only while it holds
/// something.
#[derive(Debug)]
pub struct Lazy<S> {
    stream: S,
    /// What was read, from the first of these numbers to the second.
    held: Option<(Chunk, usize, usize)>,
}

impl<S> Lazy<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, held: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncBufRead for Lazy<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let Self { stream, held } = self.get_mut();
        if held.is_none() {
            let mut chunk = Chunk::take();
            let mut read = ReadBuf::new(&mut chunk.0);
            ready!(Pin::new(stream).poll_read(context, &mut read))?;
            let length = read.filled().len();
            if length > 0 {
                *held = Some((chunk, 0, length));
            }
        }
        let bytes = held.as_ref().and_then(|(chunk, from, to)| chunk.0.get(*from..*to));
        Poll::Ready(Ok(bytes.unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let held = &mut self.get_mut().held;
        if let Some((_, from, to)) = held {
            *from += amount;
            if from >= to {
                *held = None;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lazy<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let bytes = ready!(Pin::new(&mut *this).poll_fill_buf(context))?;
        let length = bytes.len().min(into.remaining());
        into.put_slice(bytes.get(..length).unwrap_or_default());
        Pin::new(this).consume(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lazy<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream, duplex};

    use super::*;

    #[tokio::test]
    async fn a_closed_half_lets_the_other_go_on() {
        let (mut client, inner_client) = duplex(1000);
        let (mut target, inner_target) = duplex(10);
        let relayed =
            tokio::spawn(relay(BufStream::new(inner_client), Lazy::new(inner_target), Duration::from_secs(60)));
        client.write_all(b"a question that is longer than the pipe").await.expect("written");
        client.shutdown().await.expect("closed");
        let mut question = Vec::new();
        target.read_to_end(&mut question).await.expect("read to the end");
        target.write_all(&question).await.expect("answered");
        drop(target);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read to the end");
        assert_eq!(answer, question);
        let Relayed { up, down, end } = relayed.await.expect("no panic");
        assert_eq!((up, down), (39, 39));
        assert!(matches!(end, End::Closed), "{end:?}");
    }

    #[tokio::test]
    async fn small_reads_come_from_one_large_one_and_leave_nothing_behind() {
        let (mut near, far) = duplex(CHUNK);
        let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        near.write_all(&sent).await.expect("written");
        let mut lazy = Lazy::new(far);
        let mut read = vec![0; 100];
        lazy.read_exact(&mut read).await.expect("read");
        assert!(
            matches!(&lazy.held, Some((_, 100, 10_000))),
            "{:?}",
            lazy.held.as_ref().map(|(_, from, to)| (from, to))
        );
        let mut rest = vec![0; 9_900];
        lazy.read_exact(&mut rest).await.expect("read");
        assert_eq!([read, rest].concat(), sent);
        assert!(lazy.held.is_none());
        assert_eq!(SPARE.with_borrow(Vec::len), 1, "it serves the next connection");
        drop(near);
        assert_eq!(lazy.read(&mut [0]).await.expect("the end"), 0);
        assert!(lazy.held.is_none());
    }

    #[tokio::test]
    async fn silence_ends_it_and_a_byte_puts_that_off() {
        let (mut client, inner_client) = duplex(10);
        let (mut target, inner_target) = duplex(10);
        let idle = Duration::from_millis(200);
        let relayed = tokio::spawn(relay(Lazy::new(inner_client), Lazy::new(inner_target), idle));
        tokio::time::sleep(idle / 2).await;
        client.write_all(b"x").await.expect("written");
        target.read_u8().await.expect("relayed");
        let since = Instant::now();
        let Relayed { up, down, end } = relayed.await.expect("no panic");
        assert!(matches!(end, End::Idle), "{end:?}");
        // The byte was relayed a little before it was read.
        assert!(since.elapsed() > idle * 3 / 4, "{:?}", since.elapsed());
        assert_eq!((up, down), (1, 0));
    }
}
