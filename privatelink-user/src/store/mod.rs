//! The state, kept in one embedded file: one commit an operation, the last committed state after a crash at any point.
//!
//! Writers go through [`Store::update`], one at a time. Readers take [`Store::state`] or watch for the next one; they
//! never wait for a writer. A state is published only after its commit is on the disk.

mod error;
mod lock;
mod schema;

use std::{
    fmt,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redb::Database;
use tokio::sync::watch;

pub use error::{StoreError, UpdateError};
pub use lock::DirectoryLock;

use crate::model::{Change, ServiceDomain, State};

/// The name of the database file in the state directory.
pub const FILE_NAME: &str = "state.redb";

/// Opens the database file at a path; tests put failing storage here.
type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::DatabaseError> + Send + Sync>;

/// The state of one agent.
pub struct Store {
    file: PathBuf,
    opener: Opener,
    /// None after a failed write: the next writer opens the file again and starts from what is on the disk.
    database: Mutex<Option<Database>>,
    state: watch::Sender<Arc<State>>,
    service_domain: ServiceDomain,
    /// Held as long as the store: one agent for each state directory.
    _lock: DirectoryLock,
}

/// Makes the state directory if it is missing. Refuses one that others may write to, or whose file they may: whoever
/// does decides what the kernel forwards.
fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let unusable = |source: io::Error| StoreError::Directory { directory: directory.to_owned(), source: source.into() };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
    for path in [directory.to_owned(), directory.join(FILE_NAME)] {
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unusable(error)),
        };
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(StoreError::Writable { path, mode });
        }
        if ![0, nix::unistd::geteuid().as_raw()].contains(&found.uid()) {
            return Err(StoreError::Foreign { path, owner: found.uid() });
        }
    }
    Ok(())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the state in `directory`, which is made if it is missing. Refuses a directory that another agent uses and
    /// a file that cannot be trusted.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, Box::new(|file| Database::builder().create(file)))
    }

    fn open_with(directory: &Path, opener: Opener) -> Result<Self, StoreError> {
        make_directory(directory)?;
        let lock = DirectoryLock::acquire(directory)?;
        let file = directory.join(FILE_NAME);
        let (database, state) = open_database(&file, &opener)?;
        Ok(Self {
            file,
            opener,
            database: Mutex::new(Some(database)),
            state: watch::Sender::new(Arc::new(state)),
            service_domain: ServiceDomain::default(),
            _lock: lock,
        })
    }

    /// The same store, whose resources' names are under `service_domain`.
    pub fn with_service_domain(self, service_domain: ServiceDomain) -> Self {
        let state = State { service_domain: service_domain.clone(), ..State::clone(&self.state()) };
        self.publish(state);
        Self { service_domain, ..self }
    }

    /// The last committed state.
    pub fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// Each committed state from now on; the present one counts as seen.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    /// Commits `change`.
    pub fn commit(&self, change: &Change) -> Result<(), StoreError> {
        match self.update(|_| Ok::<_, std::convert::Infallible>((change.clone(), ()))) {
            Ok(()) => Ok(()),
            Err(UpdateError::Store(error)) => Err(error),
            Err(UpdateError::Refused(never)) => match never {},
        }
    }

    /// Decides on the last committed state and commits what was decided; nothing else commits in between. Returns when
    /// the change is on the disk. An empty change commits nothing.
    pub fn update<R, E>(&self, decide: impl FnOnce(&State) -> Result<(Change, R), E>) -> Result<R, UpdateError<E>> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let (reopened, state) = open_database(&self.file, &self.opener)?;
            *database = Some(reopened);
            self.publish(State { service_domain: self.service_domain.clone(), ..state });
        }
        let present = self.state();
        let (change, answer) = decide(&present).map_err(UpdateError::Refused)?;
        if change.is_empty() {
            return Ok(answer);
        }
        let mut next = State::clone(&present);
        next.apply(&change);
        next.check_change(&present, &change).map_err(StoreError::Invariant)?;
        if cfg!(debug_assertions) {
            // What a change does not touch is as it was.
            next.check_invariants().map_err(StoreError::Invariant)?;
        }
        if let Some(open) = database.as_ref()
            && let Err(error) = schema::write(open, &change)
        {
            // Whether the commit reached the disk is not known: the next writer reads it.
            *database = None;
            return Err(StoreError::write(&self.file, error).into());
        }
        self.publish(next);
        Ok(answer)
    }

    fn publish(&self, state: State) {
        self.state.send_if_modified(|present| {
            let modified = **present != state;
            *present = Arc::new(state);
            modified
        });
    }
}

/// Opens the file and reads the whole state. redb reports most damage as an error; what makes it panic is an error
/// here.
fn open_database(file: &Path, opener: &Opener) -> Result<(Database, State), StoreError> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let fresh = fs::metadata(file).map_or(true, |metadata| metadata.len() == 0);
        let mut database = opener(file).map_err(|error| StoreError::open(file, error))?;
        if file.exists() {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))
                .map_err(|source| StoreError::Io { file: file.to_owned(), detail: source.to_string() })?;
        }
        if !fresh {
            database.check_integrity().map_err(|error| StoreError::open(file, error))?;
        }
        let state = schema::read(&database, file)?;
        Ok((database, state))
    }));
    attempt.unwrap_or_else(|_| {
        Err(StoreError::Corrupt { file: file.to_owned(), detail: "its structure is damaged".to_owned() })
    })
}

#[cfg(test)]
mod tests;
