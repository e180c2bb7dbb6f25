//! The one call of `bpf(2)` that aya does not make: taking an element out of a device map.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// `BPF_MAP_DELETE_ELEM` (`linux/bpf.h`).
const MAP_DELETE_ELEM: libc::c_long = 3;

/// The kernel's `union bpf_attr` for element commands.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Takes the element `key` out of a map with 4-byte keys; one that is not there is no error.
///
/// # Errors
///
/// What the kernel says.
pub fn delete_element(map: impl AsFd, key: u32) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        _pad: 0,
        key: (&raw const key) as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: the attribute and the key that it points to outlive the call; the size is that of the attribute, and the
    // map's keys are 4 bytes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_DELETE_ELEM, &raw const attr, size_of::<ElementAttr>()) };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}
