#![cfg_attr(target_arch = "bpf", no_std, no_main)]
//! The kernel object. On the host this is an empty program, so that `cargo clippy --workspace --all-targets` needs no BPF target.

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
