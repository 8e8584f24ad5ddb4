//! Sets of state files: each has an instance, one owner, folders of its own, and hosts that can reach each other.

use crate::config::diagnostic::Findings;
use crate::config::model::Gate;
use crate::config::schema::{File, ReplicateDecl};
use crate::config::section::{At, unknown_name};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most sets of a file.
const SETS_MAX: usize = 100;
/// Where vipd keeps its own memory, trash and rescued files, unless `--state-dir` names another folder: the file cannot
/// know that one, and the replicator looks again.
const STATE_DIR: &str = "/var/lib/vipd";

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    if let Some(name) = file.set_names.get(SETS_MAX) {
        findings.error(
            &name.span,
            format!("{} sets; a file has at most {SETS_MAX}", file.set_names.len()),
            "one set holds many paths",
        );
    }
    if let Some(port) = &file.cluster.replicate_port
        && file.set_names.is_empty()
    {
        findings.warning(
            &port.span,
            "replicate-port has no effect: the file has no set",
            "add a section [replicate.NAME], or remove replicate-port",
        );
    }
    // Once: the cause is the same for every set.
    if let Some(first) = file.set_names.first()
        && !file.has_heartbeats()
        && !findings.has_errors()
    {
        findings.error(
            &first.span,
            "sets are sent along the heartbeat paths, encrypted with the cluster key, and no host has paths",
            "add paths to every [hosts.NAME], and name and key-file to [cluster]",
        );
    }
    for (at, set) in file.sets.iter().enumerate() {
        check_instance(file, set, findings);
        check_times(set, findings);
        check_paths(file, set, &file.sets[..at], findings);
    }
}

fn check_instance(file: &File, set: &ReplicateDecl, findings: &mut Findings<'_>) {
    let name = &set.instance;
    if !file.instance_names.iter().any(|n| n.value == name.value) {
        let existing: Vec<_> = file.instance_names.iter().map(|n| Arc::clone(&n.value)).collect();
        let place = format!("set {}", set.name.value);
        let name = At { value: name.value.as_ref(), span: name.span.clone() };
        unknown_name("instance", name, &place, "[instance.NAME]", &existing, findings);
        return;
    }
    let views = file.views_of(&name.value);
    // That nobody has a copy is told of the instance; here it is about a claim that never comes: nobody ever tells a
    // host without peers that it has everything.
    if let [(host, _)] = views.as_slice()
        && set.gate.value == Gate::Require
    {
        findings.error(
            &set.gate.span,
            format!("instance {} runs on {} only: \"require\" asks for a copy that another host confirms", name.value, host.name.value),
            "give another host a priority in the instance",
        );
    }
    let eager = views.iter().find_map(|(_, decl)| {
        let delay = decl.preempt_delay.as_ref().filter(|delay| delay.value.is_zero())?;
        decl.preempt.value.then_some(delay)
    });
    if let Some(delay) = eager {
        findings.warning(
            &delay.span,
            format!(
                "a returning host takes {} back at once, while set {} still comes to it",
                name.value, set.name.value
            ),
            "with replication write preempt = false (and use `vipd failback`), or a preempt-delay of a minute",
        );
    }
}

fn check_times(set: &ReplicateDecl, findings: &mut Findings<'_>) {
    if set.debounce.value > set.max_delay {
        findings.error(
            &set.debounce.span,
            format!(
                "debounce {:?} is longer than max-delay {:?}",
                set.debounce.value, set.max_delay
            ),
            "max-delay bounds the wait for quiet: make it the longer one",
        );
    }
}

/// One owner writes a folder: no path is inside of another one, of whatever set, nor where vipd keeps its own.
fn check_paths(
    file: &File,
    set: &ReplicateDecl,
    before: &[ReplicateDecl],
    findings: &mut Findings<'_>,
) {
    let key = file.cluster.key_file.as_ref().map(|key| key.value.as_path());
    // A key right below the root makes a secret of itself, not of the whole file system.
    let key_folder = key.map(|key| key.parent().filter(|p| p.parent().is_some()).unwrap_or(key));
    for (n, path) in set.paths.iter().enumerate() {
        let own =
            [(Some(Path::new(STATE_DIR)), "vipd's own memory"), (key_folder, "the cluster key")];
        for (folder, what) in own {
            let Some(folder) = folder.filter(|folder| overlap(folder, &path.value)) else {
                continue;
            };
            findings.error(
                &path.span,
                format!(
                    "{} and {}, where {what} is, are one inside of the other",
                    path.value.display(),
                    folder.display()
                ),
                "what belongs to one host is never replicated: name narrower folders",
            );
        }
        let others = before
            .iter()
            .flat_map(|set| set.paths.iter().map(move |path| (set, path)))
            .chain(set.paths[..n].iter().map(|path| (set, path)));
        for (other, theirs) in others {
            if overlap(&theirs.value, &path.value) {
                findings.error(
                    &path.span,
                    overlapping(set, path, other, theirs),
                    "a folder is in one set: its owner pushes it, all others mirror it",
                );
            }
        }
    }
}

fn overlapping(
    set: &ReplicateDecl,
    path: &At<PathBuf>,
    other: &ReplicateDecl,
    theirs: &At<PathBuf>,
) -> String {
    let (path, theirs) = (path.value.display(), theirs.value.display());
    if set.instance.value == other.instance.value {
        return format!(
            "{path} and {theirs} of set {} are one inside of the other",
            other.name.value
        );
    }
    format!(
        "{path} and {theirs} of set {} are one inside of the other, and {} and {} may have different owners: both would push it",
        other.name.value, set.instance.value, other.instance.value
    )
}

/// Is one of them inside of the other, or the same?
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
