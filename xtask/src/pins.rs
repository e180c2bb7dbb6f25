//! The versions that `[workspace.metadata.ebpf]` pins, and where this workspace keeps its files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::MetadataCommand;
use serde::Deserialize;

/// `[workspace.metadata.ebpf]` of the root manifest, and the directories that go with it.
pub struct Pins {
    /// The directory of the root manifest.
    pub root: PathBuf,
    /// `target/`.
    pub target: PathBuf,
    /// The versions themselves.
    pub ebpf: Ebpf,
}

/// The table as written; a misspelt key is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ebpf {
    /// The rustup toolchain that builds host and kernel half.
    pub toolchain: String,
    /// The bpf-linker release that goes with that toolchain's LLVM.
    pub bpf_linker: String,
    /// Its cargo features, comma separated; default features are off.
    pub bpf_linker_features: String,
    /// Debian packages that hold a compiler with its library sources, and the LLVM to link with.
    pub debian_packages: Vec<String>,
    /// The bpf-linker release that goes with Debian's LLVM.
    pub debian_bpf_linker: String,
    /// Its cargo features.
    pub debian_bpf_linker_features: String,
}

impl Pins {
    /// Reads the root manifest, and refuses one whose pins disagree with `rust-toolchain.toml`.
    pub fn read() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(&manifest)
            .no_deps()
            .exec()
            .with_context(|| format!("reading {}", manifest.display()))?;
        let table = metadata
            .workspace_metadata
            .get("ebpf")
            .with_context(|| format!("{} has no [workspace.metadata.ebpf]", manifest.display()))?;
        let ebpf =
            Ebpf::deserialize(table).with_context(|| format!("[workspace.metadata.ebpf] of {}", manifest.display()))?;

        let file = manifest.with_file_name("rust-toolchain.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        ensure!(
            text.contains(&format!("channel = \"{}\"", ebpf.toolchain)),
            "{} and [workspace.metadata.ebpf] name different toolchains; the latter says {}",
            file.display(),
            ebpf.toolchain
        );
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
            ebpf,
        })
    }

    /// Where setup keeps what it builds, beside the artefacts of the build that needs it.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}
