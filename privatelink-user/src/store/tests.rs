use std::{
    io::{self, ErrorKind},
    sync::atomic::{AtomicBool, Ordering},
};

use redb::{StorageBackend, backends::InMemoryBackend};
use tempfile::TempDir;

use super::*;
use crate::model::{RouteTable, SecurityGroup, Vpc, VpcId, VpcIndex};

fn vpc(number: u16) -> Vpc {
    Vpc {
        id: format!("vpc-{number:017x}").parse().expect("an id"),
        owner: crate::model::Owner::example(),
        name: format!("vpc{number}").parse().expect("a name"),
        cidr: "10.0.0.0/16".parse().expect("a CIDR"),
        gateway: None,
        ipv6: None,
        index: VpcIndex::new(number).expect("a number"),
        attributes: Default::default(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn put(number: u16) -> Change {
    crate::control::vpcs::made(vpc(number))
}

fn remove(number: u16) -> Change {
    let vpc = vpc(number);
    Change::default().remove(SecurityGroup::default_of(&vpc).id).remove(RouteTable::main_of(&vpc).id).remove(vpc.id)
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let dir = TempDir::new().expect("a directory");
    for (mode, refused) in [(0o770, true), (0o702, true), (0o755, false), (0o700, false)] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("its mode");
        match Store::open(dir.path()) {
            Err(StoreError::Writable { mode: found, .. }) => assert!(refused && found == mode, "{mode:o}: {found:o}"),
            Ok(_) => assert!(!refused, "{mode:o}"),
            Err(error) => panic!("{mode:o}: {error}"),
        }
    }
    let file = dir.path().join(FILE_NAME);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).expect("its mode");
    let refused = Store::open(dir.path()).expect_err("a file that others may write");
    assert!(matches!(&refused, StoreError::Writable { path, mode: 0o620 } if *path == file), "{refused}");
    assert_eq!(refused.hint(), format!("run `chmod go-w {}`", file.display()));
}

#[test]
fn a_file_whose_vpcs_have_no_defaults_gets_them() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    store.commit(&Change::default().put(vpc(1))).expect("a commit");
    assert!(store.state().security_groups.is_empty());
    drop(store);
    let store = Store::open(dir.path()).expect("the same store");
    assert_eq!(store.state().default_group(&vpc(1).id), Some(&SecurityGroup::default_of(&vpc(1))));
    assert_eq!(store.state().main_route_table(&vpc(1).id), Some(&RouteTable::main_of(&vpc(1))));
}

fn names(store: &Store) -> Vec<String> {
    store.state().vpcs.values().map(|vpc| vpc.name.to_string()).collect()
}

#[test]
fn a_reopened_store_has_the_last_committed_state() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("an empty store");
    assert_eq!(*store.state(), State::default());
    store.commit(&put(1)).expect("a commit");
    store.commit(&put(2)).expect("a commit");
    store.commit(&remove(1)).expect("a commit");
    let before = store.state();
    drop(store);
    let store = Store::open(dir.path()).expect("the same store");
    assert_eq!(store.state(), before);
    assert_eq!(names(&store), ["vpc2"]);
    assert_eq!(store.state().last_vpc_index.map(VpcIndex::get), Some(2));
}

#[test]
fn a_crash_before_the_commit_leaves_the_last_state() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    store.commit(&put(1)).expect("a commit");
    // The files as a crash leaves them: copied while the database is open, with a transaction begun and not committed.
    let crashed = TempDir::new().expect("a directory");
    {
        let database = store.database.lock().expect("the database");
        let transaction = database.as_ref().expect("an open database").begin_write().expect("a transaction");
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("vpcs");
        transaction.open_table(table).expect("a table").insert("half", b"written".as_slice()).expect("an insert");
        fs::copy(dir.path().join(FILE_NAME), crashed.path().join(FILE_NAME)).expect("a copy");
        transaction.abort().expect("an abort");
    }
    let reopened = Store::open(crashed.path()).expect("the crashed store");
    assert_eq!(reopened.state(), store.state());
}

#[test]
fn a_second_store_on_the_directory_is_refused_and_told_who_has_it() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    let error = Store::open(dir.path()).expect_err("a second store");
    assert_eq!(
        error.to_string(),
        format!(
            "the state directory '{}' is used by another agent, process {}",
            dir.path().display(),
            std::process::id()
        )
    );
    drop(store);
    Store::open(dir.path()).expect("the lock is free again");
}

#[test]
fn refused_updates_change_nothing_and_wake_nobody() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    store.commit(&put(1)).expect("a commit");
    let watch = store.watch();
    let refused = store.update(|_| Err::<(Change, ()), _>("no"));
    assert!(matches!(refused, Err(UpdateError::Refused("no"))));
    // Number 1 again under another id breaks a rule of the model.
    let twice = Vpc { id: "vpc-000000000000000ff".parse().expect("an id"), ..vpc(1) };
    assert!(matches!(store.commit(&Change::default().put(twice)), Err(StoreError::Invariant(_))));
    assert!(!watch.has_changed().expect("the store is there"));
    assert_eq!(names(&store), ["vpc1"]);
    store.commit(&put(2)).expect("a commit");
    assert!(watch.has_changed().expect("the store is there"));
}

#[test]
fn a_damaged_file_is_refused_or_read_right_but_never_read_wrong() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    for number in 1..=20 {
        store.commit(&put(number)).expect("a commit");
    }
    let state = store.state();
    drop(store);
    let good = fs::read(dir.path().join(FILE_NAME)).expect("the file");
    let mut refused = 0;
    let mut check = |bytes: &[u8], what: &str| {
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join(FILE_NAME), bytes).expect("a damaged file");
        match Store::open(dir.path()) {
            Ok(store) => assert_eq!(store.state(), state, "{what}: opened with another state"),
            Err(error) => {
                assert!(
                    matches!(error, StoreError::Corrupt { .. } | StoreError::Schema { .. } | StoreError::Io { .. }),
                    "{what}: {error}"
                );
                assert!(error.to_string().contains(FILE_NAME) && !error.hint().is_empty(), "{what}: {error}");
                refused += 1;
            }
        }
    };
    for eighth in 1..8 {
        check(&good[..good.len() * eighth / 8], "truncated");
    }
    for position in (0..good.len()).step_by(997) {
        let mut bytes = good.clone();
        bytes[position] ^= 0x55;
        check(&bytes, &format!("byte {position} flipped"));
    }
    check(b"not a database at all, but long enough to be looked at", "garbage");
    assert!(refused >= 8, "only {refused} damaged files were refused");
}

#[test]
fn an_unknown_schema_version_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    store.commit(&put(1)).expect("a commit");
    drop(store);
    let file = dir.path().join(FILE_NAME);
    let database = Database::open(&file).expect("the database");
    let transaction = database.begin_write().expect("a transaction");
    let meta: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).expect("a table").insert("schema_version", 7).expect("an insert");
    transaction.commit().expect("a commit");
    drop(database);
    let error = Store::open(dir.path()).expect_err("another schema");
    assert_eq!(
        error.to_string(),
        format!("the state file '{}' has schema version 7; this program knows version 3", file.display())
    );
}

/// Storage in memory that writes nothing while it is told so, for that reason; it outlives the database, as a disk
/// does.
#[derive(Debug, Clone)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
    why: ErrorKind,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(self.why.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room().and_then(|()| self.memory.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room().and_then(|()| self.memory.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room().and_then(|()| self.memory.write(offset, data))
    }
}

#[test]
fn a_disk_that_writes_nothing_refuses_the_operation_and_heals() {
    for (why, way_out) in [
        (ErrorKind::StorageFull, "free some space"),
        (ErrorKind::QuotaExceeded, "free some space"),
        (ErrorKind::ReadOnlyFilesystem, "check the file system"),
        (ErrorKind::Other, "check the file system"),
    ] {
        let dir = TempDir::new().expect("a directory");
        let disk = Disk { memory: Arc::new(InMemoryBackend::new()), full: Arc::default(), why };
        let opened = disk.clone();
        let opener: Opener = Box::new(move |_| Database::builder().create_with_backend(opened.clone()));
        let store = Store::open_with(dir.path(), opener).expect("a store");
        store.commit(&put(1)).expect("a commit");
        let id: VpcId = vpc(1).id;

        disk.full.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let error = store.commit(&put(2)).expect_err("nothing is written");
            assert!(matches!(error, StoreError::NoSpace { .. } | StoreError::Io { .. }), "{why}: {error}");
            assert!(error.hint().starts_with(way_out), "{why}: {}", error.hint());
            assert!(store.state().vpcs.contains_key(&id) && store.state().vpcs.len() == 1);
        }

        disk.full.store(false, Ordering::SeqCst);
        store.commit(&put(2)).expect("it writes again");
        assert_eq!(names(&store), ["vpc1", "vpc2"]);
    }
}

/// One thing that redb does to its file.
#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// Storage in memory that remembers what was done to it.
#[derive(Debug, Clone, Default)]
struct Recorder {
    memory: Arc<InMemory>,
    steps: Arc<Mutex<Vec<Step>>>,
}

#[derive(Debug)]
struct InMemory(InMemoryBackend);

impl Default for InMemory {
    fn default() -> Self {
        Self(InMemoryBackend::new())
    }
}

impl Recorder {
    fn note(&self, step: Step) {
        self.steps.lock().expect("the steps").push(step);
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        self.memory.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(Step::SetLen(len));
        self.memory.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Step::Sync);
        self.memory.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Step::Write(offset, data.to_vec()));
        self.memory.0.write(offset, data)
    }
}

/// A file, as it is after some steps.
#[derive(Clone, Default)]
struct Image(Vec<u8>);

impl Image {
    fn after(&self, step: &Step) -> Self {
        let mut bytes = self.0.clone();
        match step {
            Step::Write(offset, data) => {
                let offset = usize::try_from(*offset).expect("a small file");
                bytes.resize(bytes.len().max(offset + data.len()), 0);
                bytes[offset..offset + data.len()].copy_from_slice(data);
            }
            Step::SetLen(len) => bytes.resize(usize::try_from(*len).expect("a small file"), 0),
            Step::Sync => {}
        }
        Self(bytes)
    }

    /// The state that an agent finds in it.
    fn state(&self) -> Result<Arc<State>, StoreError> {
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join(FILE_NAME), &self.0).expect("a file");
        Store::open(dir.path()).map(|store| store.state())
    }
}

/// Between each pair of steps that an operation takes on the disk, the agent is killed (everything up to there is
/// done), or the power fails (of what was not synced, each step alone is lost, or alone is done): what is found is the
/// state before the operation or after it.
#[test]
fn between_any_two_writes_the_state_is_that_before_or_after() {
    let dir = TempDir::new().expect("a directory");
    let recorder = Recorder::default();
    let opened = recorder.clone();
    let opener: Opener = Box::new(move |_| Database::builder().create_with_backend(opened.clone()));
    let store = Store::open_with(dir.path(), opener).expect("a store");
    store.commit(&put(1)).expect("a commit");
    let mut image =
        recorder.steps.lock().expect("the steps").drain(..).fold(Image::default(), |image, step| image.after(&step));
    let (mut cuts, mut before_found, mut after_found) = (0, 0, 0);
    for change in [put(2), put(3), remove(2), put(4)] {
        let before = store.state();
        store.commit(&change).expect("a commit");
        let after = store.state();
        assert_ne!(before, after);
        let steps: Vec<Step> = recorder.steps.lock().expect("the steps").drain(..).collect();
        assert!(steps.iter().any(|step| matches!(step, Step::Sync)), "nothing was synced");
        let mut check = |image: &Image, what: &str| {
            let found = image.state().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(found == before || found == after, "{what}: neither the state before nor that after");
            cuts += 1;
            if found == before {
                before_found += 1
            } else {
                after_found += 1
            }
            found == after
        };
        // What is on the disk for certain, and what has been done since.
        let (mut synced, mut done) = (image.clone(), image.clone());
        let mut since: Vec<&Step> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            check(&done, &format!("killed before step {number} of {}", steps.len()));
            for (lost, _) in since.iter().enumerate() {
                let kept = since.iter().enumerate().filter(|(other, _)| *other != lost);
                let image = kept.fold(synced.clone(), |image, (_, step)| image.after(step));
                check(&image, &format!("power failed before step {number}, write {lost} since the last sync was lost"));
                let image = synced.after(since[lost]);
                check(
                    &image,
                    &format!("power failed before step {number}, write {lost} since the last sync alone was done"),
                );
            }
            done = done.after(step);
            match step {
                Step::Sync => (synced, since) = (done.clone(), Vec::new()),
                Step::Write(..) | Step::SetLen(_) => since.push(step),
            }
        }
        assert!(check(&done, "killed after the last step"), "what was answered is not there");
        image = done;
    }
    assert!(before_found > 0 && after_found > 0, "of {cuts} cuts {before_found} and {after_found}");
}
