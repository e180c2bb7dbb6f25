//! The threads that connections live on.
//!
//! A connection stays on one thread from its first byte to its last. Under a scheduler that moves tasks between threads
//! every fourth request wakes another thread, which costs more than what the request itself does.

use std::{
    future::Future,
    io,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::runtime::{Builder, Handle};

/// As many threads as there are CPUs, each with a scheduler of its own. They end with the process.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Connections that live on it.
    load: Arc<AtomicUsize>,
}

/// One of [`Workers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerIndex(usize);

/// What a connection holds as long as it lives: it counts for its worker.
#[derive(Debug)]
pub struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// # Errors
    ///
    /// The system's, if it has no thread or no epoll instance left.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        (0..count).map(Worker::start).collect::<Result<_, _>>().map(Self)
    }

    /// The one with the fewest connections; `own` if it has no more than that one.
    fn idlest(&self, own: WorkerIndex) -> Option<WorkerIndex> {
        let load = |worker: &Worker| worker.load.load(Ordering::Relaxed);
        let idlest = self.0.iter().enumerate().min_by_key(|(index, worker)| (load(worker), *index != own.0));
        idlest.map(|(index, _)| WorkerIndex(index))
    }

    /// Runs a connection on the worker that has the least to do. Asked from `own`, it stays there unless another one
    /// has less. (The connection gets its [`Load`] rather than being wrapped with it: a future within a future takes
    /// its room twice.)
    pub fn spawn_connection<C>(&self, own: WorkerIndex, connection: impl FnOnce(Load) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.idlest(own).and_then(|WorkerIndex(index)| self.0.get(index)) else { return };
        worker.load.fetch_add(1, Ordering::Relaxed);
        drop(worker.handle.spawn(connection(Load(Arc::clone(&worker.load)))));
    }

    /// Connections that live on all of them; one counts from before it runs first.
    pub fn load(&self) -> usize {
        self.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }

    /// A worker for the `turn`-th of tasks that are alike, and its scheduler.
    pub fn in_turn(&self, turn: usize) -> Option<(WorkerIndex, &Handle)> {
        let index = turn.checked_rem(self.0.len())?;
        self.0.get(index).map(|worker| (WorkerIndex(index), &worker.handle))
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let work = move || runtime.block_on(std::future::pending::<()>());
        thread::Builder::new().name(format!("relay-{index}")).spawn(work)?;
        Ok(Self { handle, load: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::ThreadId,
        time::{Duration, Instant},
    };

    use tokio::sync::oneshot;

    use super::*;

    /// Runs a connection that says which thread it is on and ends when it is told to.
    fn connect(workers: &Workers, own: WorkerIndex) -> (ThreadId, oneshot::Sender<()>) {
        let (said, heard) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        workers.spawn_connection(own, |load| async move {
            let _load = load;
            said.send(thread::current().id()).expect("heard");
            let _ = ended.await;
        });
        (heard.recv_timeout(Duration::from_secs(10)).expect("it runs"), end)
    }

    #[test]
    fn connections_go_where_there_are_fewest_and_rather_stay() {
        let workers = Workers((0..3).map(Worker::start).collect::<Result<_, _>>().expect("threads"));
        let own = WorkerIndex(1);
        let mut open: Vec<_> = (0..6).map(|_| connect(&workers, own)).collect();
        let on = |open: &[(ThreadId, _)], thread: ThreadId| open.iter().filter(|(one, _)| *one == thread).count();
        let threads: Vec<ThreadId> = open.iter().map(|(thread, _)| *thread).collect();
        assert!(threads.iter().all(|thread| on(&open, *thread) == 2), "{threads:?}");
        assert_eq!(threads[0], threads[3], "the asking thread is the first to be chosen");
        let (freed, end) = open.pop().expect("six");
        end.send(()).expect("it waits");
        let deadline = Instant::now() + Duration::from_secs(10);
        while workers.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum::<usize>() != 5 {
            assert!(Instant::now() < deadline, "an ended connection counts no more");
            thread::yield_now();
        }
        let (again, _end) = connect(&workers, own);
        assert_eq!(again, freed);
    }
}
