//! One boot.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Kernel, archive::Qemu};
use crate::process;

/// What QEMU ends with when the guest has written 42 to the exit device, its word for "all passed".
const PASSED: i32 = 42 << 1 | 1;

/// A guest that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Two wires, each with a network card at either end; QEMU's hubs take the place of switches.
const WIRES: usize = 2;

/// Boots `kernel` with `initramfs` and waits for its end; the console goes to `log`, and what the guest's tests say
/// also here.
pub fn boot(qemu: &Qemu, kernel: &Kernel, initramfs: &Path, filter: Option<&str>, log: &Path) -> Result<()> {
    let mut command = command(qemu, &kernel.image, initramfs, filter);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("starting {}", process::line(&command)))?;
    let console = child.stdout.take().context("QEMU's output")?;
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let child = Arc::new(Mutex::new(child));
    let ended = Arc::new(AtomicBool::new(false));
    let watch = thread::spawn({
        let (child, ended) = (Arc::clone(&child), Arc::clone(&ended));
        move || watch(&child, &ended)
    });
    for line in BufReader::new(console).split(b'\n') {
        let line = line.context("reading the guest's console")?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        writeln!(file, "{text}").with_context(|| format!("writing {}", log.display()))?;
        if let Some(said) = text.split_once("guest: ").map(|(_, said)| said) {
            println!("{}: {said}", kernel.release);
        }
    }
    ended.store(true, Ordering::Relaxed);
    let late = watch.join().unwrap_or(false);
    let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait().context("waiting for QEMU")?;
    match status.code() {
        Some(PASSED) => Ok(()),
        _ if late => bail!("no end after {} s; the console is in {}", PATIENCE.as_secs(), log.display()),
        _ => bail!("QEMU ended with {status}, a pass is {PASSED}; the console is in {}", log.display()),
    }
}

/// Ends a guest that hangs; says whether it had to.
fn watch(child: &Mutex<Child>, ended: &AtomicBool) -> bool {
    let started = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
        if started.elapsed() > PATIENCE {
            // One that has ended meanwhile cannot be killed, and need not be.
            return child.lock().unwrap_or_else(PoisonError::into_inner).kill().is_ok();
        }
    }
    false
}

fn command(qemu: &Qemu, kernel: &Path, initramfs: &Path, filter: Option<&str>) -> Command {
    let mut command = Command::new(&qemu.program);
    let libraries: Vec<String> = qemu.libraries.iter().map(|path| path.display().to_string()).collect();
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    for firmware in &qemu.firmware {
        command.arg("-L").arg(firmware);
    }
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    for wire in 0..WIRES {
        for end in 0..2 {
            let name = format!("wire{wire}end{end}");
            // XDP takes no frames whose segments or checksums are the receiver's work.
            let off = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off";
            command.args(["-netdev", &format!("hubport,id={name},hubid={wire}")]);
            let mac = format!("02:00:00:00:{wire:02x}:{end:02x}");
            command.args(["-device", &format!("virtio-net-pci,netdev={name},mac={mac},romfile=,{off}")]);
        }
    }
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    let only = filter.map(|word| format!(" PRIVATELINK_ONLY={word}")).unwrap_or_default();
    command.args(["-append", &format!("console=ttyS0 quiet panic=-1 oops=panic net.ifnames=0{only}")]);
    command
}
