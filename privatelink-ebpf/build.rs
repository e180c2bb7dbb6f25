//! Rebuilds the kernel object when bpf-linker changes: cargo cannot express a dependency on a linker.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PATH");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("bpf") {
        return;
    }
    for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let linker = dir.join("bpf-linker");
        if linker.is_file() {
            println!("cargo:rerun-if-changed={}", linker.display());
            return;
        }
    }
}
