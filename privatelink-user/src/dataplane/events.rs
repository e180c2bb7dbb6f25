//! What the datapath reports through its ring buffer.

use std::io;

use aya::maps::{MapData, RingBuf};
use privatelink_ebpf::abi::event::{Event, EventKind};
use tokio::{io::unix::AsyncFd, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// Reads records and sends them on until `stop`, or until nobody listens. Records that nobody takes in time stay in the
/// ring buffer, where the datapath counts what finds no room.
pub async fn read(ring: RingBuf<MapData>, events: mpsc::Sender<(EventKind, Event)>, stop: CancellationToken) {
    let mut ring = match register(ring) {
        Ok(ring) => ring,
        Err(error) => {
            tracing::warn!(%error, "events of the datapath cannot be read: next hops are found by polling only");
            return;
        }
    };
    loop {
        let mut ready = tokio::select! {
            () = stop.cancelled() => return,
            ready = ring.readable_mut() => match ready {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(%error, "events of the datapath cannot be waited for");
                    return;
                }
            },
        };
        let mut batch = Vec::new();
        let mut empty = false;
        while batch.len() < 1024 && !empty {
            match ready.get_inner_mut().next() {
                Some(record) => batch.extend(parse(&record)),
                None => empty = true,
            }
        }
        if empty {
            ready.clear_ready();
        }
        for event in batch {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

fn register(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring buffer owns its descriptor, keeps it open and does not exchange it as long as it lives.
    unsafe { AsyncFd::register(ring) }.map_err(Into::into)
}

fn parse(record: &[u8]) -> Option<(EventKind, Event)> {
    let event: Event = bytemuck::try_pod_read_unaligned(record.get(..size_of::<Event>())?).ok()?;
    Some((EventKind::from_bits(event.kind)?, event))
}
