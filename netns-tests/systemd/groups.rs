//! Control groups: each host's systemd gets a pure cgroup v2 of its own, also where the machine has v1 beside it.
//!
//! Outside, everything is put below one group; inside, that group is shown as the top of a fresh `/sys/fs/cgroup`.
//! When the room has ended, the groups are empty and are removed.

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};

const NAME: &str = "vipd-hosts-";
/// The top, as the room sees it.
const TOP: &str = "/sys/fs/cgroup";

/// Where this machine has cgroup v2.
pub(crate) fn hierarchy() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    found.context("no cgroup v2 is mounted on this machine")
}

/// Puts this process and all that it starts into a group of its own; removes those of runs that were killed.
pub(crate) fn enter() -> anyhow::Result<()> {
    let top = hierarchy()?;
    for entry in fs::read_dir(&top)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            remove(&entry.path());
        }
    }
    let own = top.join(format!("{NAME}{}", std::process::id()));
    fs::create_dir(&own).with_context(|| format!("cannot make {}", own.display()))?;
    join(&own)
}

/// Leaves the group and removes it with everything below.
pub(crate) fn leave() {
    let Ok(top) = hierarchy() else { return };
    if join(&top).is_ok() {
        remove(&top.join(format!("{NAME}{}", std::process::id())));
    }
}

/// Inside: shows the group as the top of the hierarchy, with this process in a group beside those of the hosts.
pub(crate) fn show() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWCGROUP).context("cannot make a cgroup namespace")?;
    let none: Option<&str> = None;
    mount(Some("none"), TOP, Some("cgroup2"), MsFlags::empty(), none)
        .context("cannot mount cgroup v2")?;
    let init = of("init");
    fs::create_dir(&init)?;
    join(&init)?;
    // Where v2 has controllers, hosts get them; where they are bound to v1, hosts do without.
    for controller in fs::read_to_string(format!("{TOP}/cgroup.controllers"))?.split_whitespace() {
        let _ = fs::write(format!("{TOP}/cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// The group called `name` inside.
pub(crate) fn of(name: &str) -> PathBuf {
    Path::new(TOP).join(name)
}

fn join(group: &Path) -> anyhow::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot enter {}", group.display()))
}

/// Is a process in the group or below it?
pub(crate) fn populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|e| e.contains("populated 1"))
}

/// Removes an empty group and those below it; one that is in use stays.
pub(crate) fn remove(group: &Path) {
    if populated(group) {
        return;
    }
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        remove(&entry.path());
    }
    let _ = fs::remove_dir(group);
}
