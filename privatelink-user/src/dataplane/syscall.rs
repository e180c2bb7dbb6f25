//! The calls of `bpf(2)` that aya does not make: taking an element out of a device map, and reading a hash map in
//! batches.

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

/// `BPF_MAP_LOOKUP_BATCH` (`linux/bpf.h`, kernel 5.6).
const MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Elements of one call: more than any bucket of a hash map has, which the kernel never splits.
const BATCH: u32 = 8_192;

/// The kernel's `union bpf_attr` for batch commands.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Every entry of a hash map with keys `K` and values `V`: one call for thousands instead of two for each.
///
/// # Errors
///
/// What the kernel says; `EINVAL` if the map's keys or values have other sizes.
pub fn entries<K: bytemuck::Pod, V: bytemuck::Pod>(map: impl AsFd) -> io::Result<Vec<(K, V)>> {
    let mut keys = vec![K::zeroed(); BATCH as usize];
    let mut values = vec![V::zeroed(); BATCH as usize];
    let mut found = Vec::new();
    // The kernel's place between two calls: a bucket's number.
    let (mut place, mut next) = (0_u32, 0_u32);
    let mut begun = false;
    loop {
        let mut attr = BatchAttr {
            in_batch: if begun { (&raw const place) as u64 } else { 0 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH,
            map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attribute and what it points to outlive the call; keys and values have room for `count` elements
        // of the map's sizes, which the caller's types have and the kernel's answers fill.
        let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>()) };
        let error = io::Error::last_os_error();
        let last = result != 0;
        if last && error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
        let count = attr.count.min(BATCH) as usize;
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if last {
            return Ok(found);
        }
        (place, begun) = (next, true);
    }
}
