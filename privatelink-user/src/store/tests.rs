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

/// Storage in memory that is full when it is told so; it outlives the database, as a disk does.
#[derive(Debug, Clone)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
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
fn a_full_disk_refuses_the_operation_and_heals_when_there_is_room() {
    let dir = TempDir::new().expect("a directory");
    let disk = Disk { memory: Arc::new(InMemoryBackend::new()), full: Arc::default() };
    let opened = disk.clone();
    let opener: Opener = Box::new(move |_| Database::builder().create_with_backend(opened.clone()));
    let store = Store::open_with(dir.path(), opener).expect("a store");
    store.commit(&put(1)).expect("a commit");
    let id: VpcId = vpc(1).id;

    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = store.commit(&put(2)).expect_err("the disk is full");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(error.hint().starts_with("free some space"));
        assert!(store.state().vpcs.contains_key(&id) && store.state().vpcs.len() == 1);
    }

    disk.full.store(false, Ordering::SeqCst);
    store.commit(&put(2)).expect("there is room again");
    assert_eq!(names(&store), ["vpc1", "vpc2"]);
}
