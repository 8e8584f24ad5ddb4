//! What has to be there before the walls close: the root of the hosts and the package. Inside there is no network.

use super::groups;
use anyhow::{Context as _, bail, ensure};
use nix::unistd::geteuid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the root holds beyond Debian's essential packages.
const INCLUDED: &str = "systemd,systemd-sysv,dbus,iproute2,procps";
/// Nothing that runs by the clock, waits for a person or looks after hardware.
const MASKED: [&str; 12] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "console-getty.service",
    "getty.target",
    "remote-fs.target",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
];
/// To be raised when the steps below change.
const RECIPE: u32 = 1;

/// The files; where they are is known on both sides of the wall.
pub(crate) struct Kit;

impl Kit {
    fn folder() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd")
    }

    /// The root, to be shared by the hosts as a read-only layer.
    pub(crate) fn root() -> PathBuf {
        Self::folder().join(format!("root-{RECIPE}"))
    }

    /// The package.
    pub(crate) fn package() -> PathBuf {
        Self::folder().join("vipd.deb")
    }

    /// The package of the other build that `VIPD_OTHER` names.
    pub(crate) fn other_package() -> PathBuf {
        Self::folder().join("other.deb")
    }

    /// That build: a vipd of another version.
    pub(crate) fn other() -> Option<PathBuf> {
        std::env::var_os("VIPD_OTHER").map(PathBuf::from)
    }

    /// Makes the root where it is missing.
    ///
    /// # Errors
    /// What this machine lacks for it; nothing of it is vipd's.
    pub(crate) fn furnish() -> anyhow::Result<()> {
        ensure!(geteuid().is_root(), "not root");
        groups::hierarchy()?;
        for (program, package) in [
            ("systemd-nspawn", "systemd-container"),
            ("mmdebstrap", "mmdebstrap"),
            ("nsenter", "util-linux"),
            ("apt-get", "apt"),
            ("cargo", "rustup"),
        ] {
            let found = Command::new(program).arg("--version").output();
            ensure!(found.is_ok(), "{program} is not installed (Debian: {package})");
        }
        let tool = Command::new("cargo").args(["deb", "--version"]).output()?;
        ensure!(tool.status.success(), "cargo-deb is not installed (packaging/build --tools deb)");
        fs::create_dir_all(Self::folder())?;
        build_root().context("the root of the hosts cannot be built")
    }

    /// Makes the package, always: the program may have changed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn pack() -> anyhow::Result<()> {
        let this = Path::new(env!("CARGO_BIN_EXE_vipd"));
        build_package(this, &Self::package()).context("the package cannot be built")?;
        if let Some(other) = Self::other() {
            build_package(&other, &Self::other_package())
                .context("the package of VIPD_OTHER cannot be built")?;
        }
        Ok(())
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<Output> {
    let out = command.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        bail!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out)
}

fn build_package(program: &Path, package: &Path) -> anyhow::Result<()> {
    let fresh = Kit::folder().join("fresh");
    // A package of an older version would be taken for this one.
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build");
    let mut command = Command::new(build);
    // The replicator comes from the same folder.
    let programs = program.parent().context("no folder of programs")?;
    command.arg("--programs").arg(programs).args(["deb", "--output"]).arg(&fresh);
    // What `cargo test` says of this package to its tests would be new to build scripts: they would run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    succeed(&mut command)?;
    let made = fs::read_dir(&fresh)?.flatten().next().context("no package was made")?;
    fs::rename(made.path(), package)?;
    Ok(())
}

fn build_root() -> anyhow::Result<()> {
    let root = Kit::root();
    if root.exists() {
        return Ok(());
    }
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("/etc/os-release names no release of Debian")?;
    let draft = root.with_extension("draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    succeed(
        Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={INCLUDED}"))
            .arg("--aptopt=APT::Install-Recommends \"false\"")
            .args(
                ["man", "doc", "locale"]
                    .map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")),
            )
            .arg(codename)
            .arg(&draft)
            .args(sources()?),
    )?;
    // The package under trial is installed whole, manual pages and all.
    for entry in fs::read_dir(draft.join("etc/dpkg/dpkg.cfg.d"))?.flatten() {
        fs::remove_file(entry.path())?;
    }
    let units = draft.join("etc/systemd/system");
    for unit in MASKED {
        let link = units.join(unit);
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink("/dev/null", link)?;
    }
    std::os::unix::fs::symlink(
        "/lib/systemd/system/multi-user.target",
        units.join("default.target"),
    )
    .or_else(|e| if e.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })?;
    for (file, text) in [("etc/fstab", ""), ("etc/resolv.conf", "")] {
        fs::write(draft.join(file), text)?;
    }
    // The journal outlives a power cut.
    fs::create_dir_all(draft.join("var/log/journal"))?;
    // Last: what bears this name is whole.
    fs::rename(&draft, &root)?;
    Ok(())
}

/// Where this machine itself gets Debian's packages from.
fn sources() -> anyhow::Result<Vec<String>> {
    let targets = || {
        let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
        let wanted = ["--format", format, "Created-By: Packages", "Origin: Debian"];
        let out = succeed(Command::new("apt-get").arg("indextargets").args(wanted))?;
        let text = String::from_utf8(out.stdout)?;
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.dedup();
        anyhow::Ok(lines)
    };
    let known = targets()?;
    if !known.is_empty() {
        return Ok(known);
    }
    succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
    let known = targets()?;
    ensure!(!known.is_empty(), "apt-get knows no source of Debian's");
    Ok(known)
}
