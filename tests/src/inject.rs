//! System calls that a running process is made to do, as a debugger does it: what its confinement refuses, it is seen
//! to be refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::eventually::eventually;

/// A process whose first thread is stopped in a system call that waits. It goes on when this is dropped.
#[derive(Debug)]
pub struct Injected {
    thread: Pid,
    registers: libc::user_regs_struct,
}

impl Injected {
    /// Stops the first thread of process `pid` as soon as it waits. Only the calling thread may use what it gets.
    pub fn stop(pid: u32) -> Result<Self> {
        let thread = Pid::from_raw(i32::try_from(pid).context("the process id")?);
        eventually(&format!("process {pid} waits in a system call"), Duration::from_secs(10), || Self::catch(thread))
    }

    /// One look: what is not in a system call goes on.
    fn catch(thread: Pid) -> Result<Self> {
        ptrace::seize(thread, ptrace::Options::empty()).context("seizing the process")?;
        let stop = || {
            ptrace::interrupt(thread).context("interrupting it")?;
            wait(thread)?;
            ptrace::getregs(thread).context("its registers")
        };
        let registers = stop().inspect_err(|_| {
            // One that is gone is let go of already.
            let _ = ptrace::detach(thread, None);
        })?;
        let stopped = Self { thread, registers };
        let before = ptrace::read(thread, (registers.rip - 2) as ptrace::AddressType).context("its code")?;
        // The instruction `syscall`.
        ensure!(before as u16 == 0x050f, "it is at work");
        Ok(stopped)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.thread.as_raw()
    }

    /// Where `text` is in its memory, until the next text.
    pub fn text(&mut self, text: &str) -> Result<u64> {
        // Below what the thread uses of its stack.
        let place = (self.registers.rsp - 8_192) & !7;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() / 8 * 8 + 8, 0);
        for (word, at) in bytes.chunks_exact(8).zip((place..).step_by(8)) {
            let word = i64::from_ne_bytes(word.try_into().context("a word")?);
            ptrace::write(self.thread, at as ptrace::AddressType, word).context("its stack")?;
        }
        Ok(place)
    }

    /// What system call `number` returns to it.
    pub fn call(&mut self, number: i64, arguments: [u64; 6]) -> Result<i64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let rip = self.registers.rip - 2;
        // No call is to be begun again.
        let registers = libc::user_regs_struct {
            rip,
            rax: number as u64,
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        ptrace::setregs(self.thread, registers).context("its registers")?;
        ptrace::step(self.thread, None).context("letting it go on")?;
        wait(self.thread)?;
        let returned = ptrace::getregs(self.thread).context("its registers")?;
        ensure!(returned.rip == self.registers.rip, "the process did something else");
        Ok(returned.rax as i64)
    }
}

fn wait(thread: Pid) -> Result<()> {
    let status = waitpid(thread, Some(WaitPidFlag::__WALL)).context("waiting for it to stop")?;
    let stopped = matches!(status, WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..));
    ensure!(stopped, "the process did not stop: {status:?}");
    Ok(())
}

impl Drop for Injected {
    fn drop(&mut self) {
        // A process that is gone needs none of it.
        let _ = ptrace::setregs(self.thread, self.registers);
        let _ = ptrace::detach(self.thread, None);
    }
}
