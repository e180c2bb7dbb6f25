//! The tables of the state file: one for each kind of resource, identity → JSON record, and one for what is single.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::StoreError;
use crate::model::{Change, Edit, EndpointService, Key, Record, RouteTable, SecurityGroup, State, VpcIndex};

/// The version of the tables and records. A file with another one is refused.
pub const VERSION: u32 = 3;

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");
const META_VERSION: &str = "schema_version";
const META_LAST_VPC_INDEX: &str = "last_vpc_index";

const VPCS: Table = TableDefinition::new("vpcs");
const PORTS: Table = TableDefinition::new("ports");
const SECURITY_GROUPS: Table = TableDefinition::new("security_groups");
const LOAD_BALANCERS: Table = TableDefinition::new("load_balancers");
const LISTENERS: Table = TableDefinition::new("listeners");
const APPLICATION_LISTENERS: Table = TableDefinition::new("application_listeners");
const LISTENER_RULES: Table = TableDefinition::new("listener_rules");
const TARGET_GROUPS: Table = TableDefinition::new("target_groups");
const ENDPOINT_SERVICES: Table = TableDefinition::new("endpoint_services");
const ENDPOINTS: Table = TableDefinition::new("endpoints");
const GATEWAY_ENDPOINTS: Table = TableDefinition::new("gateway_endpoints");
const LINKS: Table = TableDefinition::new("links");
const SUBNETS: Table = TableDefinition::new("subnets");
const ROUTE_TABLES: Table = TableDefinition::new("route_tables");
const INSTANCES: Table = TableDefinition::new("instances");
const NOTIFICATIONS: Table = TableDefinition::new("connection_notifications");
const NOTICES: Table = TableDefinition::new("notices");
const TAGS: Table = TableDefinition::new("tags");
const ACCOUNTS: Table = TableDefinition::new("accounts");
const CLIENT_TOKENS: Table = TableDefinition::new("client_tokens");
const CERTIFICATES: Table = TableDefinition::new("certificates");

/// Where a record is kept.
fn place(key: &Key) -> (Table, &str) {
    match key {
        Key::Vpc(id) => (VPCS, id.as_str()),
        Key::Port(interface) => (PORTS, interface.as_str()),
        Key::SecurityGroup(id) => (SECURITY_GROUPS, id.as_str()),
        Key::LoadBalancer(id) => (LOAD_BALANCERS, id.as_str()),
        Key::Listener(id) => (LISTENERS, id.as_str()),
        Key::ApplicationListener(id) => (APPLICATION_LISTENERS, id.as_str()),
        Key::ListenerRule(id) => (LISTENER_RULES, id.as_str()),
        Key::TargetGroup(id) => (TARGET_GROUPS, id.as_str()),
        Key::EndpointService(id) => (ENDPOINT_SERVICES, id.as_str()),
        Key::Endpoint(id) => (ENDPOINTS, id.as_str()),
        Key::GatewayEndpoint(id) => (GATEWAY_ENDPOINTS, id.as_str()),
        Key::Link(id) => (LINKS, id.as_str()),
        Key::Subnet(id) => (SUBNETS, id.as_str()),
        Key::ConnectionNotification(id) => (NOTIFICATIONS, id.as_str()),
        Key::Notice(id) => (NOTICES, id.as_str()),
        Key::RouteTable(id) => (ROUTE_TABLES, id.as_str()),
        Key::Instance(id) => (INSTANCES, id.as_str()),
        Key::Tags(id) => (TAGS, id.as_str()),
        Key::Account(id) => (ACCOUNTS, id.as_str()),
        Key::ClientToken(id) => (CLIENT_TOKENS, id.as_str()),
        Key::Certificate(id) => (CERTIFICATES, id.as_str()),
    }
}

fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    match record {
        Record::Vpc(record) => serde_json::to_vec(record),
        Record::Port(record) => serde_json::to_vec(record),
        Record::SecurityGroup(record) => serde_json::to_vec(record),
        Record::LoadBalancer(record) => serde_json::to_vec(record),
        Record::Listener(record) => serde_json::to_vec(record),
        Record::ApplicationListener(record) => serde_json::to_vec(record),
        Record::ListenerRule(record) => serde_json::to_vec(record),
        Record::TargetGroup(record) => serde_json::to_vec(record),
        Record::EndpointService(record) => serde_json::to_vec(record),
        Record::Endpoint(record) => serde_json::to_vec(record),
        Record::GatewayEndpoint(record) => serde_json::to_vec(record),
        Record::Link(record) => serde_json::to_vec(record),
        Record::Subnet(record) => serde_json::to_vec(record),
        Record::ConnectionNotification(record) => serde_json::to_vec(record),
        Record::Notice(record) => serde_json::to_vec(record),
        Record::RouteTable(record) => serde_json::to_vec(record),
        Record::Instance(record) => serde_json::to_vec(record),
        Record::Tags(record) => serde_json::to_vec(record),
        Record::Account(record) => serde_json::to_vec(record),
        Record::ClientToken(record) => serde_json::to_vec(record),
        Record::Certificate(record) => serde_json::to_vec(record),
    }
}

/// Commits `change` durably, whole or not at all.
pub fn write(database: &Database, change: &Change) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(META_VERSION, VERSION)?;
    for edit in change.edits() {
        write_edit(&transaction, edit)?;
    }
    transaction.commit()?;
    Ok(())
}

fn write_edit(transaction: &WriteTransaction, edit: &Edit) -> Result<(), redb::Error> {
    match edit {
        Edit::Put(record) => {
            let key = record.key();
            let (table, id) = place(&key);
            let bytes = encode(record).map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
            transaction.open_table(table)?.insert(id, bytes.as_slice())?;
        }
        Edit::Remove(key) => {
            let (table, id) = place(key);
            transaction.open_table(table)?.remove(id)?;
        }
        Edit::LastVpcIndex(index) => {
            transaction.open_table(META)?.insert(META_LAST_VPC_INDEX, u32::from(index.get()))?;
        }
    }
    Ok(())
}

/// Reads the whole state. An empty file is an empty state; records that contradict each other are a corrupt file.
pub fn read(database: &Database, file: &Path) -> Result<State, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { file: file.to_owned(), detail };
    let unreadable = |error: redb::Error| StoreError::write(file, error);
    let transaction = database.begin_read().map_err(|error| unreadable(error.into()))?;
    let mut state = State::default();

    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(state),
        Err(error) => return Err(unreadable(error.into())),
    };
    let number =
        |key: &str| meta.get(key).map(|found| found.map(|guard| guard.value())).map_err(|e| unreadable(e.into()));
    match number(META_VERSION)? {
        Some(VERSION) => {}
        Some(found) => {
            return Err(StoreError::Schema { file: file.to_owned(), found: found.to_string(), known: VERSION });
        }
        None => return Err(corrupt("it does not say its schema version".to_owned())),
    }
    if let Some(index) = number(META_LAST_VPC_INDEX)? {
        let index = u16::try_from(index).map_err(|error| corrupt(error.to_string()))?;
        state.last_vpc_index = Some(VpcIndex::new(index).map_err(|error| corrupt(error.to_string()))?);
    }

    let mut load = |table: Table, decode: fn(&[u8]) -> serde_json::Result<Record>| -> Result<(), StoreError> {
        let records = match transaction.open_table(table) {
            Ok(records) => records,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(unreadable(error.into())),
        };
        for entry in records.iter().map_err(|error| unreadable(error.into()))? {
            let (id, bytes) = entry.map_err(|error| unreadable(error.into()))?;
            let record = decode(bytes.value()).map_err(|error| corrupt(format!("record '{}': {error}", id.value())))?;
            if place(&record.key()).1 != id.value() {
                return Err(corrupt(format!("record '{}' is another one", id.value())));
            }
            state.put(record);
        }
        Ok(())
    };
    load(VPCS, |bytes| serde_json::from_slice(bytes).map(Record::Vpc))?;
    load(PORTS, |bytes| serde_json::from_slice(bytes).map(Record::Port))?;
    load(SECURITY_GROUPS, |bytes| serde_json::from_slice(bytes).map(Record::SecurityGroup))?;
    load(LOAD_BALANCERS, |bytes| serde_json::from_slice(bytes).map(Record::LoadBalancer))?;
    load(LISTENERS, |bytes| serde_json::from_slice(bytes).map(Record::Listener))?;
    load(APPLICATION_LISTENERS, |bytes| serde_json::from_slice(bytes).map(Record::ApplicationListener))?;
    load(LISTENER_RULES, |bytes| serde_json::from_slice(bytes).map(Record::ListenerRule))?;
    load(TARGET_GROUPS, |bytes| serde_json::from_slice(bytes).map(Record::TargetGroup))?;
    load(ENDPOINT_SERVICES, |bytes| serde_json::from_slice(bytes).map(Record::EndpointService))?;
    load(ENDPOINTS, |bytes| serde_json::from_slice(bytes).map(Record::Endpoint))?;
    load(GATEWAY_ENDPOINTS, |bytes| serde_json::from_slice(bytes).map(Record::GatewayEndpoint))?;
    load(LINKS, |bytes| serde_json::from_slice(bytes).map(Record::Link))?;
    load(SUBNETS, |bytes| serde_json::from_slice(bytes).map(Record::Subnet))?;
    load(NOTIFICATIONS, |bytes| serde_json::from_slice(bytes).map(Record::ConnectionNotification))?;
    load(NOTICES, |bytes| serde_json::from_slice(bytes).map(Record::Notice))?;
    load(ROUTE_TABLES, |bytes| serde_json::from_slice(bytes).map(Record::RouteTable))?;
    load(INSTANCES, |bytes| serde_json::from_slice(bytes).map(Record::Instance))?;
    load(TAGS, |bytes| serde_json::from_slice(bytes).map(Record::Tags))?;
    load(ACCOUNTS, |bytes| serde_json::from_slice(bytes).map(Record::Account))?;
    load(CLIENT_TOKENS, |bytes| serde_json::from_slice(bytes).map(Record::ClientToken))?;
    load(CERTIFICATES, |bytes| serde_json::from_slice(bytes).map(Record::Certificate))?;
    // A file may have VPCs without their default group and main route table, which follow from them until they are
    // changed.
    let bare = state.vpcs.values().filter(|vpc| state.default_group(&vpc.id).is_none());
    let groups: Vec<SecurityGroup> = bare.map(SecurityGroup::default_of).collect();
    let bare = state.vpcs.values().filter(|vpc| state.main_route_table(&vpc.id).is_none());
    let tables: Vec<RouteTable> = bare.map(RouteTable::main_of).collect();
    groups.into_iter().for_each(|group| state.put(group.into()));
    tables.into_iter().for_each(|table| state.put(table.into()));
    // Nor need it say in which zones a service is: those of its load balancers, until it is changed.
    let bare: Vec<EndpointService> =
        state.endpoint_services.values().filter(|service| service.zones.is_empty()).cloned().collect();
    for mut service in bare {
        service.zones = state.zones_of(&service);
        state.put(service.into());
    }
    state.check_invariants().map_err(|violation| corrupt(violation.to_string()))?;
    Ok(state)
}
