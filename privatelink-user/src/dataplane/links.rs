//! Programs on interfaces: put there, taken over from an earlier agent, taken off. Links are pinned; a filter of
//! clsact, which nothing can pin, is found by its priority and handle and remembered by a mark.

use std::{io, path::Path};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
};

use super::{DataplaneError, Hook, HookPlan, kernel::Kernel, load, pin};

/// Priority and handle of our clsact filter: what a later agent finds it by.
const CLSACT_PRIORITY: u16 = 0x50;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

impl Kernel {
    /// Puts the new programs into pinned links; a link whose interface is gone is unpinned.
    pub(super) fn adopt_links(&mut self) {
        for ifindex in self.pins.linked() {
            let tcx = self.adopt_tc(ifindex);
            let clsact = !tcx && self.adopt_clsact(ifindex);
            let xdp = self.adopt_xdp(ifindex);
            let hook = match (tcx, clsact, xdp) {
                (true, _, true) => Hook::XdpTcx,
                (true, _, false) => Hook::Tcx,
                (false, true, true) => Hook::XdpClsact,
                (false, true, false) => Hook::Clsact,
                (false, false, _) => continue,
            };
            self.attached.insert(ifindex, hook);
        }
    }

    fn adopt_tc(&mut self, ifindex: u32) -> bool {
        let path = self.pins.tc_link(ifindex);
        adopt(&path, |link| {
            let program = classifier(&mut self.ebpf)?;
            let link =
                SchedClassifierLink::try_from(link).map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
            let id = program.attach_to_link(link)?;
            program.take_link(id).map(drop)
        })
    }

    fn adopt_clsact(&mut self, ifindex: u32) -> bool {
        let mark = self.pins.clsact_mark(ifindex);
        if !mark.exists() {
            return false;
        }
        let name = nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
        let adopted = name.is_some_and(|name| self.attach_clsact(ifindex, &name).is_ok());
        if !adopted && let Err(error) = pin::unmark(&mark) {
            tracing::warn!(%error, "a mark of a filter that is gone cannot be removed");
        }
        adopted
    }

    fn adopt_xdp(&mut self, ifindex: u32) -> bool {
        let path = self.pins.xdp_link(ifindex);
        adopt(&path, |link| {
            let program = xdp(&mut self.ebpf)?;
            let link = aya::programs::xdp::XdpLink::try_from(link)
                .map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
            let id = program.attach_to_link(link)?;
            program.take_link(id).map(drop)
        })
    }

    fn attach_tcx(&mut self, ifindex: u32, name: &str) -> Result<(), DataplaneError> {
        let refused = attach_error(name, "tcx");
        let path = self.pins.tc_link(ifindex);
        pin::unpin(&path)?;
        let attach = || -> Result<(), ProgramError> {
            let program = classifier(&mut self.ebpf)?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(name, TcAttachType::Ingress, options)?;
            let link: FdLink =
                program.take_link(id)?.try_into().map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
            link.pin(&path).map(drop).map_err(|error| ProgramError::IOError(io::Error::other(error)))
        };
        let mut attach = attach;
        attach().map_err(refused)
    }

    fn attach_clsact(&mut self, ifindex: u32, name: &str) -> Result<(), DataplaneError> {
        pin::mark(&self.pins.clsact_mark(ifindex))?;
        let refused = attach_error(name, "clsact");
        if let Err(error) = aya::programs::tc::qdisc_add_clsact(name) {
            tracing::debug!(%error, interface = name, "clsact is there already, or cannot be added");
        }
        let attach = |ebpf: &mut Ebpf| -> Result<(), ProgramError> {
            let program = classifier(ebpf)?;
            // The filter of an earlier agent is replaced in place.
            let old = SchedClassifierLink::attached(name, TcAttachType::Ingress, CLSACT_PRIORITY, CLSACT_HANDLE, None)?;
            let id = match program.attach_to_link(old) {
                Ok(id) => id,
                Err(_) => {
                    let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, classid: None };
                    program.attach_with_options(name, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?
                }
            };
            // The filter outlives the agent; dropping the link would take it off.
            std::mem::forget(program.take_link(id)?);
            Ok(())
        };
        attach(&mut self.ebpf).map_err(refused)
    }

    fn attach_xdp(&mut self, ifindex: u32, name: &str) -> Result<(), DataplaneError> {
        let path = self.pins.xdp_link(ifindex);
        pin::unpin(&path)?;
        let mut attach = || -> Result<(), ProgramError> {
            let program = xdp(&mut self.ebpf)?;
            let id = program.attach_to_if_index(ifindex, XdpMode::Driver)?;
            let link: FdLink =
                program.take_link(id)?.try_into().map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
            link.pin(&path).map(drop).map_err(|error| ProgramError::IOError(io::Error::other(error)))
        };
        attach().map_err(attach_error(name, "native XDP"))
    }

    fn detach_xdp(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        pin::unpin(&self.pins.xdp_link(ifindex))
    }

    /// See [`super::Dataplane::attach`].
    pub(super) fn put_programs(&mut self, ifindex: u32, name: &str, plan: HookPlan) -> Result<Hook, DataplaneError> {
        let tc = if self.clsact { Hook::Clsact } else { Hook::Tcx };
        let both = if self.clsact { Hook::XdpClsact } else { Hook::XdpTcx };
        let present = self.attached.get(&ifindex).copied();
        match present {
            // A pinned link stays; the filter of clsact is put again, because nothing says that it is still there.
            Some(Hook::Tcx | Hook::XdpTcx) if !self.clsact => {}
            Some(Hook::Tcx | Hook::XdpTcx | Hook::Clsact | Hook::XdpClsact) | None if self.clsact => {
                self.attach_clsact(ifindex, name)?;
            }
            Some(Hook::Tcx | Hook::XdpTcx | Hook::Clsact | Hook::XdpClsact) | None => {
                self.attach_tcx(ifindex, name)?;
            }
        }
        let has_xdp = present.is_some_and(Hook::has_xdp);
        let hook = match plan {
            HookPlan::Tc => {
                if has_xdp {
                    self.detach_xdp(ifindex)?;
                }
                tc
            }
            HookPlan::PreferXdp | HookPlan::Xdp if has_xdp => both,
            HookPlan::Xdp => {
                self.attached.insert(ifindex, tc);
                self.attach_xdp(ifindex, name)?;
                both
            }
            HookPlan::PreferXdp => match self.attach_xdp(ifindex, name) {
                Ok(()) => both,
                Err(error) => {
                    tracing::info!(interface = name, %error, "TC only: native XDP is not to be had");
                    tc
                }
            },
        };
        self.attached.insert(ifindex, hook);
        Ok(hook)
    }

    /// See [`super::Dataplane::detach`].
    pub(super) fn take_programs(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.detach_xdp(ifindex)?;
        pin::unpin(&self.pins.tc_link(ifindex))?;
        match self.attached.remove(&ifindex) {
            Some(Hook::Clsact | Hook::XdpClsact) => {
                remove_clsact(ifindex);
                pin::unmark(&self.pins.clsact_mark(ifindex))?;
            }
            Some(Hook::Tcx | Hook::XdpTcx) | None => {}
        }
        Ok(())
    }
}

fn adopt(path: &Path, update: impl FnOnce(FdLink) -> Result<(), ProgramError>) -> bool {
    if !path.exists() {
        return false;
    }
    let updated = PinnedLink::from_pin(path)
        .map_err(|error| ProgramError::IOError(io::Error::other(error)))
        .and_then(|link| update(link.into()));
    match updated {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, path = %path.display(), "a pinned link leads nowhere and is removed");
            if let Err(error) = pin::unpin(path) {
                tracing::warn!(%error, "a pinned link cannot be removed");
            }
            false
        }
    }
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, ProgramError> {
    match ebpf.program_mut(load::TC) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        Some(_) | None => Err(ProgramError::NotLoaded),
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    match ebpf.program_mut(load::XDP) {
        Some(Program::Xdp(program)) => Ok(program),
        Some(_) | None => Err(ProgramError::NotLoaded),
    }
}

fn attach_error(interface: &str, hook: &'static str) -> impl FnOnce(ProgramError) -> DataplaneError {
    let interface = interface.to_owned();
    move |source| DataplaneError::Attach { interface, hook, source: Box::new(source) }
}

/// Takes our clsact filter off an interface, if there is one.
pub(super) fn remove_clsact(ifindex: u32) {
    let Ok(name) = nix::net::if_::if_indextoname(ifindex) else { return };
    let Ok(name) = name.into_string() else { return };
    match SchedClassifierLink::attached(&name, TcAttachType::Ingress, CLSACT_PRIORITY, CLSACT_HANDLE, None) {
        // Dropping the link detaches the filter.
        Ok(link) => drop(link),
        Err(error) => tracing::debug!(%error, name, "no clsact filter to remove"),
    }
}
