//! The guest's file system: programs of this host with their libraries, and the modules that they need of the kernel.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cpio::newc;

use crate::{packages, process};

/// The first process: mounts, modules, then the tests, which end QEMU themselves if all passed. dash runs it: busybox's
/// own shell would prefer its own applets to the programs of the same name.
const INIT: &str = "#!/bin/dash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t bpf bpf /sys/fs/bpf
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t tmpfs tmpfs /run
while read -r module; do
    busybox insmod \"/modules/$module\" || echo \"guest: the module $module is refused\"
done < /modules/order
echo 1 > /proc/sys/net/core/bpf_jit_enable
export PRIVATELINK_READY_SECONDS=400
/programs/guest
echo \"guest: the tests ended with $?\"
busybox reboot -f
";

/// What the programs need of the kernel that is a module in Debian's, where it is one.
const MODULES: [&str; 6] = ["veth", "sch_ingress", "cls_bpf", "virtio_pci", "virtio_net", "bridge"];

/// Mount points and the like.
const DIRECTORIES: [&str; 6] = ["proc", "sys", "dev", "tmp", "run", "modules"];

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// What is the same for all kernels.
pub struct Base {
    files: BTreeMap<PathBuf, Entry>,
    busybox: PathBuf,
}

#[derive(Clone)]
enum Entry {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(PathBuf),
}

impl Base {
    /// `busybox` is the program in one file; `programs` is where `privatelink` and `guest` are built.
    pub fn new(busybox: &Path, programs: &Path) -> Result<Self> {
        let mut base = Self { files: BTreeMap::new(), busybox: busybox.to_path_buf() };
        base.put("init", Entry::Program(INIT.as_bytes().to_vec()));
        base.program(busybox, "bin/busybox")?;
        for name in ["dash", "ip"] {
            let path = packages::find(name).with_context(|| format!("the guest needs {name}, which is not here"))?;
            base.program(&path, &format!("bin/{name}"))?;
        }
        base.put("bin/sh", Entry::Link(PathBuf::from("dash")));
        for name in ["privatelink", "guest"] {
            base.program(&stripped(&programs.join(name))?, &format!("programs/{name}"))?;
        }
        Ok(base)
    }

    /// The whole archive for the kernel whose `lib/modules/RELEASE` this is. Uncompressed: the emulated processor would
    /// take longer to unpack it than to read it.
    pub fn with_modules(&self, modules: &Path) -> Result<Vec<u8>> {
        let mut all = self.files.clone();
        let mut known = BTreeMap::new();
        find_modules(modules, &mut known)?;
        let mut order = Vec::new();
        for name in MODULES {
            self.module(name, &known, &mut order, &mut all)?;
        }
        let lines: String = order.iter().map(|name| format!("{name}\n")).collect();
        all.insert(PathBuf::from("modules/order"), Entry::File(lines.into_bytes()));
        archive(&all)
    }

    /// Puts a module after all that it depends on. One that has no file is built into the kernel.
    fn module(
        &self,
        name: &str,
        known: &BTreeMap<String, PathBuf>,
        order: &mut Vec<String>,
        all: &mut BTreeMap<PathBuf, Entry>,
    ) -> Result<()> {
        let Some(path) = known.get(name) else { return Ok(()) };
        if order.iter().any(|one| one == name) {
            return Ok(());
        }
        let mut bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        if path.extension().is_some_and(|extension| extension == "xz") {
            bytes = output(Command::new(&self.busybox).arg("xzcat").arg(path))?;
        }
        for needed in dependencies(&bytes) {
            self.module(&needed, known, order, all)?;
        }
        order.push(name.to_owned());
        all.insert(Path::new("modules").join(name), Entry::File(bytes));
        Ok(())
    }

    fn put(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        self.files.insert(path.into(), entry);
    }

    /// A program and the libraries that the loader would find for it, at the paths where it looks for them.
    fn program(&mut self, program: &Path, to: &str) -> Result<()> {
        let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
        self.put(to, Entry::Program(bytes));
        let Some(listed) = process::output(Command::new("ldd").arg(program)) else { return Ok(()) };
        for path in listed.lines().filter_map(library) {
            let bytes = fs::read(path).with_context(|| format!("reading {path}"))?;
            self.put(path.trim_start_matches('/'), Entry::Program(bytes));
        }
        Ok(())
    }
}

/// The path in a line of `ldd`: "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2
/// (0x…)".
fn library(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with('/'))
}

/// A copy without what only debuggers read, which is most of it.
fn stripped(program: &Path) -> Result<PathBuf> {
    let copy = program.with_extension("stripped");
    process::run(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

/// Files of modules by name; the kernel writes "_" where files may have "-".
fn find_modules(dir: &Path, known: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_modules(&path, known)?;
        } else if let Some((name, _)) = entry.file_name().to_str().and_then(|name| name.split_once(".ko")) {
            known.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// What a module's `.modinfo` says that it depends on.
fn dependencies(module: &[u8]) -> Vec<String> {
    let fields = module.split(|byte| *byte == 0);
    let listed = fields.filter_map(|field| field.strip_prefix(b"depends=".as_slice())).next().unwrap_or_default();
    let names = String::from_utf8_lossy(listed);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {}", process::line(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", process::line(command), output.status);
    }
    Ok(output.stdout)
}

/// The archive as the kernel reads it (`Documentation/driver-api/early-userspace/buffer-format.rst`, "newc").
fn archive(files: &BTreeMap<PathBuf, Entry>) -> Result<Vec<u8>> {
    let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    directories.extend(files.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_path_buf));
    directories.retain(|path| !path.as_os_str().is_empty());
    directories.sort();
    directories.dedup();
    let mut out = Vec::new();
    let mut inode = 0;
    let mut put = |path: &Path, mode: u32, content: &[u8]| -> Result<()> {
        inode += 1;
        let name = path.to_str().with_context(|| format!("the name {} is no text", path.display()))?;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        let mut writer = newc::Builder::new(name).mode(mode).ino(inode).write(&mut out, size);
        writer.write_all(content).and_then(|()| writer.finish().map(drop)).with_context(|| format!("packing {name}"))
    };
    for path in directories {
        put(&path, DIRECTORY | 0o755, &[])?;
    }
    for (path, entry) in files {
        match entry {
            Entry::File(bytes) => put(path, FILE | 0o644, bytes)?,
            Entry::Program(bytes) => put(path, FILE | 0o755, bytes)?,
            Entry::Link(to) => put(path, SYMLINK | 0o777, to.as_os_str().as_encoded_bytes())?,
        }
    }
    newc::trailer(&mut out).context("ending the archive")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_say_what_they_depend_on() {
        let module = b"\x7fELF\0license=GPL\0depends=net_failover,crc-t10dif\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["net_failover", "crc_t10dif"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
    }

    #[test]
    fn libraries_are_the_paths_that_ldd_shows() {
        assert_eq!(library("\tlibc.so.6 => /lib/libc.so.6 (0x1)"), Some("/lib/libc.so.6"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x1)"), None);
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x1)"), Some("/lib64/ld-linux-x86-64.so.2"));
    }
}
