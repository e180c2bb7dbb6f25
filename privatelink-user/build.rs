//! Builds the kernel object with the toolchain and the bpf-linker that `[workspace.metadata.ebpf]` pins.
//!
//! Without bpf-linker (a machine on which `cargo xtask setup` has not run) it writes an empty object instead, so that
//! `cargo check`, clippy and the pure tests work everywhere; the loader then says how to get a real one.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The objects' names in `OUT_DIR`: the kernel crate's bin targets. The second one is the benchmarks'.
const OBJECTS: [&str; 2] = ["dataplane", "bench-kernel"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    println!("cargo:rerun-if-env-changed=CLIPPY_ARGS");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the user crate has no parent directory")?;

    // `cargo xtask setup` puts bpf-linker here, beside the artefacts of the build that needs it.
    let tools = target_dir(&out_dir)?.join("tools");
    println!("cargo:rerun-if-changed={}", tools.join("ready").display());
    let mut path = vec![tools.join("bin")];
    // Where setup fell back to another compiler, `toolchain` names the directory of the `rustup` that runs it.
    if let Ok(fallback) = fs::read_to_string(tools.join("toolchain")) {
        path.push(tools.join(fallback.trim()));
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let found = path.iter().any(|dir| dir.join("bpf-linker").is_file());

    // Clippy checks the host half only; it never runs the object.
    if !found || env::var_os("AYA_BUILD_SKIP").is_some() || env::var_os("CLIPPY_ARGS").is_some() {
        if !found {
            println!(
                "cargo:warning=no bpf-linker: building without the kernel object; `cargo xtask setup` installs it"
            );
        }
        for object in OBJECTS {
            fs::write(out_dir.join(object), []).context("writing the empty kernel object")?;
        }
        return Ok(());
    }

    // SAFETY: a build script is single-threaded here; nothing else reads the environment.
    unsafe {
        env::set_var("PATH", env::join_paths(&path)?);
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Version 3 of the instruction set (kernel 5.12): 32-bit arithmetic, and atomics of both sizes with results.
        // aya-build sets RUSTFLAGS itself, so the processor comes by way of the profile; build scripts and macros stay
        // the host's.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3");
        env::set_var("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "-Cdebuginfo=0");
        // aya-build shows everything that the inner cargo says as a warning; only warnings and errors should be.
        env::set_var("CARGO_TERM_QUIET", "true");
    }

    let toolchain = pinned_toolchain(workspace)?;
    let root_dir = workspace.join("privatelink-ebpf");
    let root_dir = root_dir.to_str().context("the workspace path is not UTF-8")?;
    aya_build::build_ebpf(
        [aya_build::Package { name: "privatelink-ebpf", root_dir, ..Default::default() }],
        aya_build::Toolchain::Custom(&toolchain),
    )
}

/// The toolchain that `[workspace.metadata.ebpf]` of the root manifest pins beside its bpf-linker.
fn pinned_toolchain(workspace: &Path) -> Result<String> {
    let manifest = workspace.join("Cargo.toml");
    println!("cargo:rerun-if-changed={}", manifest.display());
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(&manifest)
        .no_deps()
        .exec()
        .with_context(|| format!("reading {}", manifest.display()))?;
    metadata
        .workspace_metadata
        .pointer("/ebpf/toolchain")
        .and_then(|toolchain| toolchain.as_str())
        .map(str::to_owned)
        .with_context(|| format!("{} has no workspace.metadata.ebpf.toolchain", manifest.display()))
}

/// `target/`, found from `target/<profile>/build/<package>/out`.
fn target_dir(out_dir: &Path) -> Result<PathBuf> {
    out_dir
        .ancestors()
        .nth(4)
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is not inside a target directory", out_dir.display()))
}
