//! The compiler and the linker of the kernel object: the pinned rustup toolchain, or Debian's packages.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    packages,
    pins::{Ebpf, Pins},
    process,
};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The pinned rustup toolchain; Debian's packages where it cannot have rust-src.
    #[default]
    Auto,
    /// Only the pinned rustup toolchain.
    Rustup,
    /// Only Debian's rustc-web packages.
    Debian,
}

/// What builds the kernel object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// `rustup run <name>`.
    Rustup(String),
    /// The compiler on PATH: no rustup here, and it is the pinned version with its library sources.
    OnPath,
    /// `/usr/bin/rustc` and `/usr/bin/cargo` from Debian's packages.
    Debian,
}

/// Makes sure that the kernel object can be built and returns one line that says with what.
///
/// What it did is recorded in `target/tools`: `ready` holds the line and everything it depends on, `toolchain` exists
/// only for the fallback and names the directory of its `rustup` stand-in, which `privatelink-user/build.rs` puts
/// first on PATH.
pub fn ensure(pins: &Pins, choice: Choice) -> Result<String> {
    let tools = pins.tools();
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    if let Some(line) = recorded(pins, choice) {
        return Ok(line);
    }
    let source = match choice {
        Choice::Debian => debian(pins)?,
        Choice::Rustup => rustup(&pins.ebpf)?,
        Choice::Auto => match rustup(&pins.ebpf) {
            Ok(source) => source,
            Err(reason) => {
                eprintln!("  rustup has no complete {}: {reason:#}", pins.ebpf.toolchain);
                eprintln!("  falling back to Debian's {}", pins.ebpf.debian_packages.join(", "));
                debian(pins)?
            }
        },
    };
    install_bpf_linker(pins, &source)?;
    record(pins, &source)
}

/// The line of an earlier run, if everything that it speaks of is still there.
fn recorded(pins: &Pins, choice: Choice) -> Option<String> {
    let tools = pins.tools();
    let ready = fs::read_to_string(tools.join("ready")).ok()?;
    let source = if tools.join("toolchain").exists() { Source::Debian } else { rustup_or_path(&pins.ebpf)? };
    let wanted = match choice {
        Choice::Auto => true,
        Choice::Rustup => source != Source::Debian,
        Choice::Debian => source == Source::Debian,
    };
    let complete = tools.join("bin/bpf-linker").is_file() && has_sources(&source);
    (wanted && complete && ready == stamp(pins, &source)).then(|| describe(pins, &source))
}

/// The rustup toolchain with its library sources, installed if need be.
fn rustup(ebpf: &Ebpf) -> Result<Source> {
    let source = match rustup_or_path(ebpf) {
        Some(source) => source,
        None if which::which("rustup").is_ok() => {
            process::run(Command::new("rustup").args([
                "toolchain",
                "install",
                &ebpf.toolchain,
                "--profile",
                "minimal",
            ]))?;
            Source::Rustup(ebpf.toolchain.clone())
        }
        None => bail!("no rustup here, and no rustc {} on PATH", ebpf.toolchain),
    };
    if !has_sources(&source) {
        match &source {
            Source::Rustup(name) => {
                process::run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", name]))?;
                if !has_sources(&source) {
                    bail!("rustup says that {name} has rust-src, but its files are not there");
                }
            }
            Source::OnPath | Source::Debian => {
                bail!("the rustc on PATH comes without its library sources")
            }
        }
    }
    Ok(source)
}

/// The pinned toolchain if it is installed, with or without its sources.
fn rustup_or_path(ebpf: &Ebpf) -> Option<Source> {
    if which::which("rustup").is_ok() {
        let source = Source::Rustup(ebpf.toolchain.clone());
        return sysroot(&source).map(|_| source);
    }
    let version = process::output(Command::new("rustc").arg("--version"))?;
    version.starts_with(&format!("rustc {} ", ebpf.toolchain)).then_some(Source::OnPath)
}

/// Debian's packages, installed if need be, and the stand-in that makes `rustup run` use them.
fn debian(pins: &Pins) -> Result<Source> {
    if !has_sources(&Source::Debian) || llvm_prefix(&pins.ebpf).is_none() {
        packages::install(&pins.ebpf.debian_packages, &pins.tools())?;
    }
    if !has_sources(&Source::Debian) {
        bail!("{} came without library sources", pins.ebpf.debian_packages.join(", "));
    }
    let dir = pins.tools().join("debian");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let stand_in = dir.join("rustup");
    // aya-build starts `rustup run <toolchain> <program> ...` wherever a rustup is on PATH.
    let script = "#!/bin/sh\n# Stands in for `rustup run TOOLCHAIN PROGRAM ...`: runs Debian's PROGRAM.\n\
                  shift 2\nunset RUSTUP_TOOLCHAIN CARGO RUSTC\nPATH=/usr/bin:$PATH exec \"$@\"\n";
    fs::write(&stand_in, script).with_context(|| format!("writing {}", stand_in.display()))?;
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).context("making the stand-in executable")?;
    Ok(Source::Debian)
}

/// Builds the pinned bpf-linker into `target/tools/bin`, in place of whatever is there.
fn install_bpf_linker(pins: &Pins, source: &Source) -> Result<()> {
    let (version, features) = linker_pin(&pins.ebpf, source);
    let mut install = match source {
        Source::Rustup(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "cargo"]);
            command
        }
        Source::OnPath => Command::new("cargo"),
        Source::Debian => {
            let mut command = Command::new("/usr/bin/cargo");
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path =
                std::env::join_paths(std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path)))
                    .context("putting /usr/bin first on PATH")?;
            command.env("PATH", path);
            if let Some(prefix) = llvm_prefix(&pins.ebpf) {
                command.env("LLVM_PREFIX", prefix);
            }
            command
        }
    };
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
        install.env_remove(variable);
    }
    // Outside the workspace: neither its rust-toolchain.toml nor its .cargo/config.toml applies to the linker.
    install.current_dir(std::env::temp_dir());
    install.args(["install", "bpf-linker", "--locked", "--force", "--no-default-features"]);
    install.arg(format!("--version={version}")).arg(format!("--features={features}"));
    install.arg("--root").arg(pins.tools());
    let log = pins.tools().join("bpf-linker.log");
    process::run_quietly(&format!("building bpf-linker {version} (about a minute)"), &mut install, &log)
}

/// Writes down what `source` is; the files change only if their contents do, because the kernel object is rebuilt then.
fn record(pins: &Pins, source: &Source) -> Result<String> {
    let tools = pins.tools();
    let toolchain = tools.join("toolchain");
    match source {
        Source::Debian => write_if_changed(&toolchain, "debian\n")?,
        Source::Rustup(_) | Source::OnPath => match fs::remove_file(&toolchain) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing {}", toolchain.display()));
            }
        },
    }
    write_if_changed(&tools.join("ready"), &stamp(pins, source))?;
    Ok(describe(pins, source))
}

fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Everything that the installed linker depends on.
fn stamp(pins: &Pins, source: &Source) -> String {
    let (version, features) = linker_pin(&pins.ebpf, source);
    format!("{}\nbpf-linker {version} {features}\n", compiler(&pins.ebpf, source))
}

fn describe(pins: &Pins, source: &Source) -> String {
    let (version, _) = linker_pin(&pins.ebpf, source);
    format!("kernel object: {}, bpf-linker {version}", compiler(&pins.ebpf, source))
}

fn compiler(ebpf: &Ebpf, source: &Source) -> String {
    match source {
        Source::Rustup(name) => format!("rustup's {name} with rust-src"),
        Source::OnPath => format!("rustc {} on PATH", ebpf.toolchain),
        Source::Debian => format!("Debian's {} (fallback)", ebpf.debian_packages[..].join(", ")),
    }
}

fn linker_pin<'a>(ebpf: &'a Ebpf, source: &Source) -> (&'a str, &'a str) {
    match source {
        Source::Rustup(_) | Source::OnPath => (&ebpf.bpf_linker, &ebpf.bpf_linker_features),
        Source::Debian => (&ebpf.debian_bpf_linker, &ebpf.debian_bpf_linker_features),
    }
}

/// Whether `-Z build-std` finds the library sources.
fn has_sources(source: &Source) -> bool {
    sysroot(source).is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir())
}

fn sysroot(source: &Source) -> Option<PathBuf> {
    let mut command = match source {
        // `rustup run` never installs anything, unlike a bare `rustc`.
        Source::Rustup(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "rustc"]);
            command
        }
        Source::OnPath => Command::new("rustc"),
        Source::Debian => Command::new("/usr/bin/rustc"),
    };
    process::output(command.args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The directory of Debian's LLVM, for `llvm-22` among the features; bpf-linker's build looks there if told.
fn llvm_prefix(ebpf: &Ebpf) -> Option<PathBuf> {
    let major = ebpf.debian_bpf_linker_features.split(',').find_map(|feature| feature.strip_prefix("llvm-"))?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    prefix.join("bin/llvm-config").exists().then_some(prefix)
}
