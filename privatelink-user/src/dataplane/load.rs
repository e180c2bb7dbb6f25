//! From the object in this binary to loaded programs and pinned tables: checks first, then the tables that are already
//! pinned, then new ones.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, ProgramArray},
    programs::{Program, TestRun as _, TestRunOptions},
    util::KernelVersion,
};
use privatelink_ebpf::abi::{
    ABI_VERSION, MAPS, entries,
    settings::{Clock, ClockSample, FLOW_EVENTS, Settings, globals},
    stage::{self, StageProgram},
};

use super::{
    DataplaneError, clock, features,
    pin::{self, PinDir},
};

/// The kernel object; empty when it was built without bpf-linker.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/dataplane"));

/// The object with the benchmarks' kernel programs, built beside the other; empty as that. No part of the agent.
pub static BENCH_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-kernel"));

pub const TC: &str = "privatelink_tc";
pub const XDP: &str = "privatelink_xdp";
pub const COLLECT: &str = "privatelink_collect";
pub const CLOCK: &str = "privatelink_clock";
pub const EXPLAIN: &str = "privatelink_explain";
/// Answers questions about IPv6; kernels without [`features::FINE_STACK`] refuse it.
pub const EXPLAIN_IPV6: &str = "privatelink_explain_ipv6";
/// The programs that are attached or run; the stages are called by them.
pub const ENTRIES: [&str; 5] = [TC, XDP, COLLECT, CLOCK, EXPLAIN];

/// The program that explains `frame`.
pub fn explaining(frame: &[u8]) -> &'static str {
    /// The EtherType of IPv6, behind both addresses.
    const IPV6: [u8; 2] = [0x86, 0xdd];
    if frame.get(12..14) == Some(&IPV6) { EXPLAIN_IPV6 } else { EXPLAIN }
}

/// The oldest kernel whose verifier and helpers the programs need.
pub const OLDEST_KERNEL: (u8, u8) = (6, 1);

/// How the datapath is made. What exists already keeps its sizes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the BPF file system is, or is to be mounted.
    pub bpffs: PathBuf,
    /// Names the pins; see [`pin::instance`].
    pub state_dir: PathBuf,
    /// Targets (and port pools of 8 kB each) that there is room for.
    pub max_targets: u32,
    /// Buckets of four flow entries; a power of two. A flow takes two entries.
    pub buckets: u32,
    /// Use the kernel's hash map only, as the reference.
    pub reference_table: bool,
    /// Attach by clsact even where tcx is there.
    pub clsact: bool,
    /// Report flows that open and close.
    pub flow_events: bool,
    /// Debug lines of the programs up to this level go into the agent's log. `None`: the programs have none, and cost
    /// nothing.
    pub log_level: Option<aya_log::Level>,
}

impl Options {
    /// The defaults for one state directory.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            bpffs: PathBuf::from("/sys/fs/bpf"),
            state_dir: state_dir.into(),
            max_targets: entries::TARGETS,
            buckets: entries::FLOWS,
            reference_table: false,
            clsact: false,
            flow_events: false,
            log_level: None,
        }
    }

    /// Where the pins of this instance are.
    pub fn pins(&self) -> PinDir {
        PinDir::new(&self.bpffs, &pin::instance(&self.state_dir))
    }
}

/// What a table is made of, by which the kernel and this program must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of `bpf_map_type`.
    kind: u32,
    /// In bytes.
    key: u32,
    value: u32,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, key, value } = self;
        write!(f, "keys of {key} and values of {value} bytes in a map of type {kind}")
    }
}

/// Holds the tables that are pinned for a state directory against what this agent needs, and changes nothing.
///
/// # Errors
///
/// [`DataplaneError::AbiMismatch`], [`DataplaneError::ShapeMismatch`]: another version's, which goes on forwarding with
/// them.
pub fn check_tables(bpffs: &Path, state_dir: &Path) -> Result<(), DataplaneError> {
    let pins = PinDir::new(bpffs, &pin::instance(state_dir));
    if pinned_settings(&pins)?.is_none() {
        return Ok(());
    }
    let object = aya_obj::Object::parse(OBJECT).map_err(|error| load_error(aya::EbpfError::ParseError(error)))?;
    for (name, map) in &object.maps {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let failed = |source| DataplaneError::Pinned { path: path.clone(), source: Box::new(source) };
        let info = MapData::from_pin(&path).and_then(|map| map.info()).map_err(failed)?;
        let kind = info.map_type().map_err(failed)? as u32;
        let found = Shape { kind, key: info.key_size(), value: info.value_size() };
        let ours = Shape { kind: map.map_type(), key: map.key_size(), value: map.value_size() };
        if found != ours {
            return Err(DataplaneError::ShapeMismatch { path, found, ours });
        }
    }
    Ok(())
}

/// Everything that must hold before the kernel is asked for anything.
///
/// # Errors
///
/// [`DataplaneError::NoObject`], [`DataplaneError::KernelTooOld`], [`DataplaneError::MissingCapability`].
pub fn check_host() -> Result<(), DataplaneError> {
    if OBJECT.is_empty() {
        return Err(DataplaneError::NoObject);
    }
    check_kernel(KernelVersion::current().ok())?;
    check_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn check_kernel(found: Option<KernelVersion>) -> Result<(), DataplaneError> {
    let (major, minor) = OLDEST_KERNEL;
    match found {
        Some(version) if version < KernelVersion::new(major, minor, 0) => {
            let code = version.code();
            Err(DataplaneError::KernelTooOld { found: format!("{}.{}", code >> 16, (code >> 8) & 0xff) })
        }
        // A kernel that does not say what it is may be new enough; loading tells.
        Some(_) | None => Ok(()),
    }
}

/// Capabilities by their bit (`linux/capability.h`) and name. `CAP_SYS_ADMIN` stands in for `CAP_BPF` and
/// `CAP_PERFMON`, as in the kernel.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;

fn check_capabilities(status: &str) -> Result<(), DataplaneError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    // Without /proc nothing can be said here; the kernel will say it.
    let Some(effective) = effective else { return Ok(()) };
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<&'static str> = CAPABILITIES
        .into_iter()
        .filter(|&(bit, _)| !(has(bit) || bit >= 38 && has(CAP_SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(DataplaneError::MissingCapability { missing }) }
}

/// What was loaded.
pub(super) struct Loaded {
    pub ebpf: Ebpf,
    pub settings: Settings,
    pub clock: Clock,
}

/// Loads the object: adopts the pinned tables of the instance, or makes new ones.
///
/// # Errors
///
/// Every one of [`DataplaneError`] that is about loading.
pub(super) fn load(options: &Options) -> Result<Loaded, DataplaneError> {
    check_host()?;
    pin::ensure_bpffs(&options.bpffs)?;
    let pins = options.pins();
    pins.create()?;
    let clock = calibrate()?;
    let found = pinned_settings(&pins)?;
    let loaded = load_into(options, &pins, clock, found);
    if loaded.is_err() && found.is_none() {
        // Half a datapath helps nobody.
        pins.remove_all()?;
    }
    loaded
}

fn load_into(
    options: &Options,
    pins: &PinDir,
    clock: Clock,
    found: Option<Settings>,
) -> Result<Loaded, DataplaneError> {
    let settings = found.unwrap_or_else(|| Settings {
        abi_version: ABI_VERSION,
        buckets: options.buckets,
        hash_seed: rand::random(),
        flags: 0,
        _pad: 0,
    });
    let settings = Settings { flags: if options.flow_events { FLOW_EVENTS } else { 0 }, ..settings };

    let bucket_mask = settings.buckets - 1;
    let reference_table = u32::from(options.reference_table);
    let log_level = options.log_level.map_or(0u8, |level| level as u8);
    let cookie_key: [u64; 2] = rand::random();
    let mut loader = EbpfLoader::new();
    loader
        .override_global(globals::HASH_SEED, &settings.hash_seed, true)
        .override_global(globals::COOKIE_KEY, &cookie_key, true)
        .override_global(globals::BUCKET_MASK, &bucket_mask, true)
        .override_global(globals::REFERENCE_TABLE, &reference_table, false)
        .override_global(globals::TICK_SHIFT, &clock.tick_shift, true)
        .override_global(globals::TICKS_PER_256_S, &clock.ticks_per_256_s, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .map_max_entries("FLOWS", settings.buckets)
        .map_max_entries("STASH", stash_entries(settings.buckets, options.reference_table))
        .map_max_entries("TARGETS", options.max_targets)
        .map_max_entries("NEXT_NODES", options.max_targets)
        .map_max_entries("TARGET_STATS", options.max_targets)
        .map_max_entries("POOLS", options.max_targets);
    for map in MAPS {
        loader.map_pin_path(map.name, pins.map(map.name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    for name in ENTRIES {
        load_program(&mut ebpf, name)?;
    }
    fill_stages(&mut ebpf)?;
    if !KernelVersion::current().is_ok_and(|version| features::FINE_STACK.missing_in(version)) {
        load_program(&mut ebpf, EXPLAIN_IPV6)?;
    }
    write_settings(&mut ebpf, settings)?;
    Ok(Loaded { ebpf, settings, clock })
}

/// What the stash has room for: an eighth of what the buckets have, which is more than what finds no room in buckets
/// that are nine tenths full; as the reference, the whole table.
fn stash_entries(buckets: u32, reference_table: bool) -> u32 {
    if reference_table { entries::STASH } else { (buckets / 2).max(1) }
}

fn load_error(error: aya::EbpfError) -> DataplaneError {
    DataplaneError::Load(Box::new(error))
}

/// The settings of the tables that are pinned; `None` if there are none, or if making them was cut short.
fn pinned_settings(pins: &PinDir) -> Result<Option<Settings>, DataplaneError> {
    let path = pins.map("SETTINGS");
    if !path.exists() {
        return Ok(None);
    }
    let map = MapData::from_pin(&path).map_err(DataplaneError::map("SETTINGS"))?;
    let size = map.info().map_err(DataplaneError::map("SETTINGS"))?.value_size();
    if size as usize != size_of::<Settings>() {
        return Err(mismatch(pins.root(), 0));
    }
    let array: Array<MapData, Settings> = Map::Array(map).try_into().map_err(DataplaneError::map("SETTINGS"))?;
    let settings = array.get(&0, 0).map_err(DataplaneError::map("SETTINGS"))?;
    match settings.abi_version {
        0 => Ok(None),
        ABI_VERSION if settings.buckets.is_power_of_two() => Ok(Some(settings)),
        other => Err(mismatch(pins.root(), other)),
    }
}

fn mismatch(path: &Path, found: u32) -> DataplaneError {
    DataplaneError::AbiMismatch { path: path.to_path_buf(), found, ours: ABI_VERSION }
}

fn write_settings(ebpf: &mut Ebpf, settings: Settings) -> Result<(), DataplaneError> {
    let map = ebpf.map_mut("SETTINGS").ok_or(DataplaneError::Missing { kind: "table", name: "SETTINGS" })?;
    let mut array: Array<_, Settings> = map.try_into().map_err(DataplaneError::map("SETTINGS"))?;
    array.set(0, settings, 0).map_err(DataplaneError::map("SETTINGS"))
}

/// Loads the stages and puts them where the attached programs find them.
pub fn fill_stages(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    for StageProgram { stage: _, name, table: _ } in stage::programs() {
        load_program(ebpf, name)?;
    }
    place_stages(ebpf)
}

/// Puts the stages, which are loaded, where the attached programs find them.
pub fn place_stages(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    for StageProgram { stage, name, table } in stage::programs() {
        let program = ebpf.program(name).ok_or(DataplaneError::Missing { kind: "program", name })?;
        let program = program
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(|source| DataplaneError::Verify { name, source: Box::new(source) })?;
        let map = ebpf.map_mut(table).ok_or(DataplaneError::Missing { kind: "table", name: table })?;
        let mut programs: ProgramArray<_> = map.try_into().map_err(DataplaneError::map(table))?;
        programs.set(stage as u32, &program, 0).map_err(DataplaneError::map(table))?;
    }
    Ok(())
}

/// Loads one program of the object, whatever its kind.
pub fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), DataplaneError> {
    let program = ebpf.program_mut(name).ok_or(DataplaneError::Missing { kind: "program", name })?;
    let loaded = match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => return Err(DataplaneError::Missing { kind: "program", name }),
    };
    loaded.map_err(|source| DataplaneError::Verify { name, source: Box::new(source) })
}

/// Runs a program of the object once over `data`; the frame as it left it, and what it returned.
pub(super) fn run(ebpf: &mut Ebpf, name: &'static str, data: &[u8]) -> Result<(Vec<u8>, u32), DataplaneError> {
    run_with(ebpf, name, data, None)
}

/// Runs a TC program once over `data`, as a frame that came in on interface `ifindex`.
pub(super) fn run_on(
    ebpf: &mut Ebpf,
    name: &'static str,
    ifindex: u32,
    data: &[u8],
) -> Result<(Vec<u8>, u32), DataplaneError> {
    // `struct __sk_buff` of `linux/bpf.h`: the interface index is its eleventh word.
    let mut context = [0u32; 48];
    if let Some(word) = context.get_mut(10) {
        *word = ifindex;
    }
    run_with(ebpf, name, data, Some(bytemuck::bytes_of(&context)))
}

fn run_with(
    ebpf: &mut Ebpf,
    name: &'static str,
    data: &[u8],
    ctx_in: Option<&[u8]>,
) -> Result<(Vec<u8>, u32), DataplaneError> {
    let program = ebpf.program_mut(name).ok_or(DataplaneError::Missing { kind: "program", name })?;
    let mut out = vec![0; data.len() + 64];
    let options = TestRunOptions { data_in: Some(data), data_out: Some(&mut out), ctx_in, ..TestRunOptions::new() };
    let result = match program {
        Program::SchedClassifier(program) => program.test_run(options),
        Program::Xdp(program) => program.test_run(options),
        _ => return Err(DataplaneError::Missing { kind: "program", name }),
    };
    let result = result.map_err(|source| DataplaneError::Program { name, source: Box::new(source) })?;
    out.truncate(result.data_size_out as usize);
    Ok((out, result.return_value))
}

/// Reads the clock program's sample.
pub(super) fn sample(ebpf: &mut Ebpf) -> Result<ClockSample, DataplaneError> {
    // The kernel takes no frame shorter than an Ethernet header.
    let (out, returned) = run(ebpf, CLOCK, &[0; 64])?;
    out.get(..size_of::<ClockSample>())
        .and_then(|bytes| bytemuck::try_pod_read_unaligned(bytes).ok())
        .filter(|sample: &ClockSample| sample.monotonic_ns != 0)
        .ok_or(DataplaneError::Result { name: CLOCK, returned })
}

/// Measures the rate of jiffies with a copy of the object whose tables hold one entry each.
fn calibrate() -> Result<Clock, DataplaneError> {
    let mut loader = EbpfLoader::new();
    for map in MAPS {
        loader.map_max_entries(map.name, if map.name == "EVENTS" { 4096 } else { 1 });
    }
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    load_program(&mut ebpf, CLOCK)?;
    let first = sample(&mut ebpf)?;
    std::thread::sleep(clock::BETWEEN_SAMPLES);
    let second = sample(&mut ebpf)?;
    clock::hz(first, second).map(Clock::for_hz).ok_or(DataplaneError::Result { name: CLOCK, returned: 0 })
}

/// Takes the datapath of an instance out: links first, so that packets pass again, then tables.
///
/// # Errors
///
/// [`DataplaneError::Pin`].
pub fn remove(options: &Options) -> Result<Removed, DataplaneError> {
    let pins = options.pins();
    if !pins.exists() {
        return Ok(Removed { ports: 0 });
    }
    let linked = pins.linked();
    for ifindex in &linked {
        pin::unpin(&pins.xdp_link(*ifindex))?;
        pin::unpin(&pins.tc_link(*ifindex))?;
        if pins.clsact_mark(*ifindex).exists() {
            super::links::remove_clsact(*ifindex);
        }
    }
    pins.remove_all()?;
    // The directory above belongs to all instances; the last one takes it away.
    if let Some(shared) = pins.root().parent() {
        match fs::remove_dir(shared) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(pin::pin_error(shared)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Removed { ports: linked.len() })
}

/// What [`remove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    pub ports: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named() {
        let refused = check_kernel(Some(KernelVersion::new(5, 15, 3)));
        assert!(matches!(refused, Err(DataplaneError::KernelTooOld { found }) if found == "5.15"));
        assert!(check_kernel(Some(KernelVersion::new(6, 1, 0))).is_ok());
    }

    #[test]
    fn missing_capabilities_are_named() {
        let missing = |status| match check_capabilities(status) {
            Err(DataplaneError::MissingCapability { missing }) => missing,
            Ok(()) => Vec::new(),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(missing("CapEff:\t0000000000000000\n").len(), 4);
        assert_eq!(missing("CapEff:\t000001ffffffffff\n"), [""; 0]);
        // CAP_SYS_ADMIN and CAP_NET_ADMIN, but no raw sockets.
        assert_eq!(missing("CapEff:\t0000000000201000\n"), ["CAP_NET_RAW"]);
    }
}
