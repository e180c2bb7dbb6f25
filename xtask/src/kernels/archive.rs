//! Debian's packages, by apt, with a state directory of its own: nothing of this host's apt changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Kernel, NEWEST};
use crate::process;

/// Suites with kernels: 6.1 and 6.12 are Debian 12's, what is newer is in the backports of Debian 13. `true`: in the
/// archive of security updates.
const SUITES: [(&str, bool); 4] =
    [("bookworm", false), ("bookworm-security", true), ("bookworm-backports", false), ("trixie-backports", false)];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Package lists are fetched again when they are older: old versions vanish from the archive.
const LISTS_LAST: Duration = Duration::from_secs(3 * 24 * 3600);

/// The directory with all that was downloaded.
pub struct Archive {
    dir: PathBuf,
}

/// An emulator and its files.
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Where its firmware is.
    pub firmware: Vec<PathBuf>,
    /// Where libraries are that this host lacks.
    pub libraries: Vec<PathBuf>,
}

impl Archive {
    /// Makes the directory and fetches the package lists unless there are recent ones.
    pub fn open(dir: &Path) -> Result<Self> {
        let archive = Self { dir: dir.to_path_buf() };
        for name in ["state/lists/partial", "cache/archives/partial", "etc/none", "debs"] {
            let dir = archive.dir.join(name);
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        let stamp = archive.dir.join("fetched");
        let age = fs::metadata(&stamp)
            .and_then(|file| file.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age > LISTS_LAST) {
            let (mirror, security) = mirrors()?;
            let sources: String = SUITES
                .iter()
                .map(|(suite, secured)| {
                    let uri = if *secured { &security } else { &mirror };
                    format!("deb [signed-by={KEYRING} arch=amd64] {uri} {suite} main\n")
                })
                .collect();
            fs::write(archive.dir.join("etc/sources.list"), sources).context("writing the list of sources")?;
            fs::write(archive.dir.join("apt.conf"), archive.configuration()).context("writing apt's configuration")?;
            archive.quietly("fetching Debian's package lists", "apt-get", &["update", "--quiet"])?;
            fs::write(&stamp, "").context("noting that the lists are here")?;
        }
        Ok(archive)
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The emulator with all that this host lacks for it. Debian 12's own panics now and then; its backports' does not.
    pub fn qemu(&self) -> Result<Qemu> {
        let root = self.dir.join("qemu");
        let done = root.join("complete");
        if !done.exists() {
            let packages = ["qemu-system-x86", "seabios"];
            let install = ["install", "--yes", "--quiet", "--download-only", "--no-install-recommends"];
            let line = [&install[..], &["--target-release", "bookworm-backports"], &packages].concat();
            self.quietly("downloading QEMU", "apt-get", &line)?;
            let cache = self.dir.join("cache/archives");
            for entry in fs::read_dir(&cache).with_context(|| format!("reading {}", cache.display()))? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "deb") {
                    unpack(&path, &root)?;
                }
            }
            fs::write(&done, "").context("noting that QEMU is here")?;
        }
        let program = root.join("usr/bin/qemu-system-x86_64");
        // Packages that are installed here are not downloaded; then the host's own program is as new as can be had.
        let program = if program.exists() { program } else { PathBuf::from("qemu-system-x86_64") };
        Ok(Qemu {
            program,
            firmware: vec![root.join("usr/share/qemu"), root.join("usr/share/seabios")],
            libraries: vec![root.join("usr/lib/x86_64-linux-gnu"), root.join("lib/x86_64-linux-gnu")],
        })
    }

    /// busybox in one file.
    pub fn busybox(&self) -> Result<PathBuf> {
        let root = self.dir.join("busybox");
        let program = root.join("bin/busybox");
        if !program.exists() {
            self.download(&["busybox-static".to_owned()], &root)?;
        }
        ensure!(program.exists(), "Debian's busybox-static has no {}", program.display());
        Ok(program)
    }

    /// The newest cloud kernel whose version begins with `version`.
    pub fn kernel(&self, version: &str) -> Result<Kernel> {
        let names = self.output("apt-cache", &["pkgnames", "linux-image-"])?;
        let mut releases: Vec<&str> = names
            .lines()
            .filter_map(|name| name.strip_prefix("linux-image-"))
            .filter(|release| release.ends_with("-cloud-amd64") && of_version(release, version))
            .collect();
        releases.sort_by_key(|release| numbers(release));
        let release = (*releases.last().with_context(|| {
            format!("Debian has no cloud kernel {version} (any more); say two numbers as in 6.12, or {NEWEST}")
        })?)
        .to_owned();
        let root = self.dir.join("kernel").join(&release);
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        let done = root.join("complete");
        if !done.exists() {
            // The newest ones are split into image and modules.
            let all = self.output("apt-cache", &["pkgnames", "linux-"])?;
            let packages: Vec<String> = ["image", "binary", "modules"]
                .iter()
                .map(|part| format!("linux-{part}-{release}"))
                .filter(|name| all.lines().any(|one| one == name))
                .collect();
            self.download(&packages, &root)?;
            fs::write(&done, "").context("noting that the kernel is here")?;
        }
        let places = [root.join("lib/modules"), root.join("usr/lib/modules")].map(|place| place.join(&release));
        let modules = places.iter().find(|place| place.is_dir());
        let modules = modules.with_context(|| format!("the packages of {release} have no modules"))?.clone();
        let images = [image, modules.join("vmlinuz"), root.join("usr/lib/linux").join(format!("vmlinuz-{release}"))];
        let image = images.iter().find(|path| path.is_file());
        let image = image.with_context(|| format!("the packages of {release} have no kernel image"))?.clone();
        Ok(Kernel { release, image, modules })
    }

    /// Downloads `packages`, without what they depend on, and unpacks them into `root`.
    fn download(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        // What a run that was cut short has left is not to be mixed with these.
        fs::remove_dir_all(&debs)
            .and_then(|()| fs::create_dir(&debs))
            .with_context(|| format!("emptying {}", debs.display()))?;
        let what = format!("downloading {}", packages.join(", "));
        let mut command = self.apt("apt-get");
        command.current_dir(&debs).args(["download", "--quiet"]).args(packages);
        process::run_quietly(&what, &mut command, &self.dir.join("apt.log"))?;
        for entry in fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))? {
            let path = entry?.path();
            unpack(&path, root)?;
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    fn quietly(&self, what: &str, program: &str, args: &[&str]) -> Result<()> {
        process::run_quietly(what, self.apt(program).args(args), &self.dir.join("apt.log"))
    }

    fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        process::output(self.apt(program).args(args)).with_context(|| format!("{program} {} failed", args.join(" ")))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// What is installed here is taken from the host: QEMU then needs only what is missing.
    fn configuration(&self) -> String {
        let dir = self.dir.display();
        format!(
            "Dir::State \"{dir}/state\";\nDir::State::status \"/var/lib/dpkg/status\";\nDir::Cache \"{dir}/cache\";\n\
             Dir::Etc::sourcelist \"{dir}/etc/sources.list\";\nDir::Etc::sourceparts \"{dir}/etc/none\";\n\
             Dir::Etc::preferencesparts \"{dir}/etc/none\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             Debug::NoLocking \"true\";\n"
        )
    }
}

/// Where this host gets Debian's packages and their security updates from.
fn mirrors() -> Result<(String, String)> {
    const LIST: [&str; 4] = ["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"];
    let Some(targets) = process::output(Command::new("apt-get").args(LIST)) else {
        bail!("other kernels come from Debian's archive, and there is no apt-get here");
    };
    let pairs: Vec<(&str, &str)> = targets.lines().filter_map(|line| line.split_once(' ')).collect();
    let uri = |wanted: &dyn Fn(&str) -> bool, what: &str| {
        let found = pairs.iter().find(|(suite, _)| wanted(suite)).map(|(_, uri)| (*uri).to_owned());
        found.with_context(|| {
            format!("apt's sources on this host name no archive of {what}; other kernels are Debian's packages")
        })
    };
    let security = uri(&|suite| suite.ends_with("-security"), "Debian's security updates")?;
    let base = |suite: &str| pairs.iter().any(|(other, _)| *other == format!("{suite}-security"));
    Ok((uri(&base, "Debian")?, security))
}

fn unpack(package: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
    process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root))
}

/// Whether a release ("6.12.117+deb12-cloud-amd64") is of a version ("6.12", "6.12.117", "newest").
fn of_version(release: &str, version: &str) -> bool {
    let first_is_number = release.starts_with(|first: char| first.is_ascii_digit());
    // A release has three numbers at least; two are the name of a package that only leads to another one.
    if !first_is_number || numbers(release).len() < 3 {
        return false;
    }
    let rest = release.strip_prefix(version);
    version == NEWEST || rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// The numbers that a release begins with: 6.1.0-56 is [6, 1, 0, 56]. What a distribution adds after "+" or letters is
/// left out.
fn numbers(release: &str) -> Vec<u32> {
    let version = release.split('+').next().unwrap_or(release);
    version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_of_versions_by_whole_numbers() {
        assert!(of_version("6.1.0-56-cloud-amd64", "6.1"));
        assert!(!of_version("6.12.117+deb12-cloud-amd64", "6.1"));
        assert!(of_version("6.12.117+deb12-cloud-amd64", "6.12.117"));
        assert!(!of_version("6.12-cloud-amd64", "6.12"));
        assert!(!of_version("cloud-amd64", NEWEST));
        assert!(of_version("7.3.4+deb13-cloud-amd64", NEWEST));
    }

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(numbers("6.1.0-9-cloud-amd64") < numbers("6.1.0-56-cloud-amd64"));
        assert!(numbers("6.18.15+deb13-cloud-amd64") < numbers("7.3.4+deb13-cloud-amd64"));
        assert!(numbers("6.12.90+deb12-cloud-amd64") < numbers("6.12.117+deb12-cloud-amd64"));
    }
}
