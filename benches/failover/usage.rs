//! CPU time and memory of an agent: all processes of its host.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use vipd_agent::lab::netns::Netns;

/// CPU time that the processes of a host have used so far, to the nanosecond.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn cpu(ns: &Netns) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in ns.processes()? {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("cannot list threads")?;
        for task in tasks.flatten() {
            // First number: nanoseconds on a processor, user and kernel. A thread may have ended.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos = text.split_ascii_whitespace().next().and_then(|n| n.parse().ok());
            total += Duration::from_nanos(nanos.unwrap_or(0));
        }
    }
    Ok(total)
}

/// Memory of the processes of a host in kB, as if nobody else ran the same programs: their anonymous pages,
/// shared ones in parts, and of each file the pages of the process that has most of it.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn memory_kb(ns: &Netns) -> anyhow::Result<f64> {
    let mut anonymous = 0.0;
    let mut files: BTreeMap<String, f64> = BTreeMap::new();
    for pid in ns.processes()? {
        let kb = |line: &str, name: &str| -> Option<f64> {
            line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        let read =
            |file| fs::read_to_string(format!("/proc/{pid}/{file}")).context("cannot read memory");
        let rollup = read("smaps_rollup")?;
        anonymous += rollup.lines().find_map(|l| kb(l, "Pss_Anon:")).context("no Pss_Anon")?;
        let (mut place, mut resident) = (String::new(), 0.0);
        for line in read("smaps")?.lines() {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            if let [_, rights, offset, device, inode, ..] = words[..]
                && rights.len() == 4
            {
                place = format!("{device} {inode} {offset}");
            } else if let Some(rss) = kb(line, "Rss:") {
                resident = rss;
            } else if let Some(own) = kb(line, "Anonymous:")
                && resident > own
            {
                let most = files.entry(place.clone()).or_default();
                *most = most.max(resident - own);
            }
        }
    }
    Ok(anonymous + files.values().sum::<f64>())
}
