//! The userspace half of the generator and the far ends.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::{Array, PerCpuArray, PerCpuValues, xdp::DevMap},
    programs::{ProgramFd, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
    util::nr_cpus,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use privatelink_ebpf::{
    abi::{
        Proto,
        bench::{Count, FLOWS_PER_CLIENT, HEADERS, Traffic},
    },
    wire::checksum,
};
use privatelink_user::dataplane::load::BENCH_OBJECT;

use super::bed::{Bed, ENDPOINT, FIRST_CLIENT, PORT};

/// A 64-byte frame without its FCS, which a veth does not carry.
const FRAME: usize = 60;

/// The programs around the one that is measured.
#[derive(Debug)]
pub struct Generator<'a> {
    bed: &'a Bed,
    ebpf: Ebpf,
}

/// What the far ends do with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// Answers handshakes, counts and drops the rest.
    Answers,
    /// Counts and drops everything.
    Silent,
}

/// Which frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// A SYN for each flow in turn.
    Open,
    /// Segments of established flows in random order.
    Established,
    /// A UDP datagram without a checksum for each flow in turn.
    FirstDatagrams,
    /// Datagrams in random order.
    Datagrams,
}

impl Frames {
    fn proto(self) -> Proto {
        match self {
            Self::Open | Self::Established => Proto::Tcp,
            Self::FirstDatagrams | Self::Datagrams => Proto::Udp,
        }
    }

    /// One for each flow in turn, or as many as there are in random order.
    fn in_turn(self) -> bool {
        match self {
            Self::Open | Self::FirstDatagrams => true,
            Self::Established | Self::Datagrams => false,
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub frames: u64,
    pub received: u64,
    pub time: Duration,
}

impl Sent {
    /// Millions of packets a second.
    pub fn mpps(&self) -> f64 {
        self.received as f64 / self.time.as_secs_f64() / 1e6
    }
}

impl<'a> Generator<'a> {
    /// Loads the programs and attaches the far ends.
    pub fn load(bed: &'a Bed, far_end: FarEnd) -> Result<Self> {
        ensure!(!BENCH_OBJECT.is_empty(), "built without bpf-linker; `cargo xtask setup` installs it");
        let mut ebpf = Ebpf::load(BENCH_OBJECT).context("loading the benchmarks' programs")?;
        for name in ["generate", "smallest_tx", "smallest_redirect", "far_end", "sink"] {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        let name = match far_end {
            FarEnd::Answers => "far_end",
            FarEnd::Silent => "sink",
        };
        for device in [&bed.clients, &bed.targets] {
            let program = xdp(&mut ebpf, name)?;
            let attach = || program.attach_to_if_index(device.index, XdpMode::Driver);
            device.end.netns.run(attach)?.with_context(|| format!("attaching {name} to {}", device.end.name))?;
        }
        let mut out: DevMap<_> = ebpf.map_mut("OUT").context("no map OUT")?.try_into()?;
        // The kernel looks for the device where the system call comes from.
        bed.lb
            .run(|| out.set(0, bed.target.index, None::<&ProgramFd>, 0))?
            .context("the way out of the smallest program")?;
        Ok(Self { bed, ebpf })
    }

    /// Also counts the frames that reach the targets' device past its XDP hook.
    pub fn count_behind_peer(&mut self) -> Result<()> {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut("sink_tc").context("no program sink_tc")?.try_into()?;
        program.load().context("loading sink_tc")?;
        let device = &self.bed.targets;
        device
            .end
            .netns
            .run(|| program.attach(&device.end.name, TcAttachType::Ingress))?
            .context("attaching sink_tc")?;
        Ok(())
    }

    /// The program that ours is compared with.
    pub fn smallest(&mut self, same_port: bool) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, if same_port { "smallest_tx" } else { "smallest_redirect" })
    }

    /// Chooses the frames of the next runs and starts their order anew.
    pub fn choose(&mut self, frames: Frames, flows: u32) -> Result<()> {
        ensure!(flows > 0 && flows <= FLOWS_PER_CLIENT * 200, "no room for {flows} flows in the client addresses");
        let order_bits = if frames.in_turn() { 0 } else { flows.next_power_of_two().ilog2().max(1) };
        let headers = headers(frames, self.bed);
        let mut traffic: Array<_, Traffic> = self.ebpf.map_mut("TRAFFIC").context("no map TRAFFIC")?.try_into()?;
        traffic.set(0, Traffic { headers, _pad: [0; 2], flows, order_bits }, 0).context("the traffic")?;
        let cpus = nr_cpus().map_err(|(_, error)| error).context("the number of CPUs")?;
        let mut cursor: PerCpuArray<_, u32> = self.ebpf.map_mut("CURSOR").context("no map CURSOR")?.try_into()?;
        // CPUs start far apart, so that they do not visit the same flows at the same time.
        let start = |cpu| if frames.in_turn() { 0 } else { (cpu as u32).wrapping_mul(0x9e37_79b9) };
        let starts: Vec<u32> = (0..cpus).map(start).collect();
        cursor.set(0, PerCpuValues::try_from(starts).context("the cursors")?, 0).context("the cursors")
    }

    /// What the far ends counted.
    pub fn count(&self, what: Count) -> Result<u64> {
        let counts: PerCpuArray<_, u64> = self.ebpf.map("COUNTS").context("no map COUNTS")?.try_into()?;
        Ok(counts.get(&(what as u32), 0).context("the counts")?.iter().sum())
    }

    /// Sends `frames` from `cpu` and waits until `what` counted them all or no more come.
    pub fn send(&self, cpu: usize, frames: u32, what: Count) -> Result<Sent> {
        self.send_from(&[cpu], frames, what)
    }

    /// Sends `frames` from each of `cpus` at once.
    pub fn send_from(&self, cpus: &[usize], frames: u32, what: Count) -> Result<Sent> {
        let before = self.count(what)?;
        let all = u64::from(frames) * cpus.len() as u64;
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let runs: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || self.run(cpu, frames))).collect();
            runs.into_iter()
                .map(|run| run.join().unwrap_or_else(|_| bail!("the generator panicked")))
                .collect::<Result<_>>()
        })?;
        let time = times.into_iter().max().context("no CPU to send from")?;
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut received = self.count(what)? - before;
        while received < all && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            received = self.count(what)? - before;
        }
        Ok(Sent { frames: all, received, time })
    }

    fn run(&self, cpu: usize, frames: u32) -> Result<Duration> {
        let program: &Xdp = self.ebpf.program("generate").context("no program generate")?.try_into()?;
        let device = &self.bed.clients;
        device.end.netns.run(|| {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to CPU {cpu}"))?;
            real_time().context("real-time priority")?;
            // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
            let context: Vec<u8> =
                [0, FRAME as u32, 0, device.index, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            let options = TestRunOptions {
                data_in: Some(&[0; FRAME]),
                ctx_in: Some(&context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(64),
                ..TestRunOptions::new()
            };
            let started = Instant::now();
            program.test_run(options).context("a live-frames test run")?;
            Ok(started.elapsed())
        })?
    }
}

/// Gives this thread real-time priority, so that no other process's time slice falls into a measurement.
fn real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters are live and of the layout that the call takes; it concerns this thread only.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A program of the object.
pub fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is no XDP program"))
}

/// The generator's headers: from the first client's port 0 to the endpoint, with checksums.
fn headers(frames: Frames, bed: &Bed) -> [u8; HEADERS] {
    let (seq, ack, flags): (u32, u32, u8) = match frames {
        Frames::Open => (1000, 0, 0x02),
        // What the far end counts; in a datagram the same bytes are payload.
        Frames::Established | Frames::FirstDatagrams | Frames::Datagrams => (1001, 5001, 0x10),
    };
    let proto = frames.proto();
    let mut headers = [0; HEADERS];
    headers[..6].copy_from_slice(&bed.client.mac.0);
    headers[6..12].copy_from_slice(&bed.clients.mac.0);
    headers[12..26].copy_from_slice(&[0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, proto.number(), 0, 0]);
    headers[26..30].copy_from_slice(&FIRST_CLIENT.octets());
    headers[30..34].copy_from_slice(&ENDPOINT.octets());
    headers[36..38].copy_from_slice(&PORT.to_be_bytes());
    headers[38..42].copy_from_slice(&seq.to_be_bytes());
    headers[42..46].copy_from_slice(&ack.to_be_bytes());
    headers[46..50].copy_from_slice(&[0x50, flags, 0xff, 0xff]);
    let ip = !checksum::fold(checksum::sum(&headers[14..34]));
    headers[24..26].copy_from_slice(&ip.to_ne_bytes());
    match proto {
        Proto::Tcp => {
            let pseudo = checksum::sum(&headers[26..34]) + checksum::sum(&[0, 6, 0, 20]);
            let tcp = !checksum::fold(pseudo + checksum::sum(&headers[34..54]));
            headers[50..52].copy_from_slice(&tcp.to_ne_bytes());
        }
        // Length; no checksum, as the generator adjusts the one of TCP.
        Proto::Udp => headers[38..42].copy_from_slice(&[0, 20, 0, 0]),
    }
    headers
}
