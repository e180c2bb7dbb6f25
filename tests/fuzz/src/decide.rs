//! Frames, time and changes of the configuration, over the host's tables: see [`fuzz::drive`].

use std::cell::RefCell;

use privatelink_ebpf::testing::{fuzz, host::Host, run::Path, tables::Options};

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::new(Options { buckets: 8, stash: 64, ..Options::default() }));
}

pub(crate) fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let path = if first & 1 == 0 { Path::Tc } else { Path::XdpThenTc };
    HOST.with_borrow_mut(|host| {
        if let Err(wrong) = fuzz::drive(bytes, path, host) {
            panic!("{wrong}");
        }
    });
}
