//! What a set leaves out: names by pattern, links by where they lead.
//!
//! Asked by the scanner, by the watch and by whoever checks an offer, so that all agree on what a set is.

use crate::error::Error;
use crate::manifest::{Entry, Kind};
use crate::meta;
use crate::path::RelPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use vipd_core::config::model::Replicate;

/// The patterns of a set, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Against the path below the root.
    paths: GlobSet,
    /// Against the last component.
    names: GlobSet,
}

impl Rules {
    /// Of `config`.
    pub(crate) fn new(config: &Replicate) -> Result<Self, Error> {
        let (mut paths, mut names) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in &config.exclude {
            let bare = pattern.trim_start_matches('/');
            let glob = GlobBuilder::new(bare.trim_end_matches('/'))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| {
                    let set = &config.name;
                    Error::Refused(format!("[replicate.{set}] exclude {pattern:?}: {error}"))
                })?;
            if bare.trim_end_matches('/').contains('/') || pattern.starts_with('/') {
                paths.add(glob);
            } else {
                names.add(glob);
            }
        }
        let built = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::Refused(format!("exclude: {error}")))
        };
        Ok(Self { paths: built(paths)?, names: built(names)? })
    }

    /// `path` itself is left out; what is below a folder that is left out is so as well, but is not asked for here.
    pub(crate) fn excludes(&self, path: &RelPath) -> bool {
        let last = path.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        self.names.is_match(OsStr::from_bytes(last)) || self.paths.is_match(path.as_path())
    }

    /// `path` or a folder on the way to it is left out.
    pub(crate) fn excludes_deep(&self, path: &RelPath) -> bool {
        let octets = path.as_bytes();
        let ends = octets.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        ends.chain([octets.len()]).any(|end| {
            let part = octets.get(..end).unwrap_or_default();
            RelPath::new(path.root(), part).is_ok_and(|part| self.excludes(&part))
        })
    }

    /// Why this set would never hold `entry`: then another host has another configuration.
    pub(crate) fn objects(&self, entry: &Entry, config: &Replicate) -> Option<String> {
        let (path, set) = (&entry.path, &config.name);
        let hint = format!("[replicate.{set}] must be the same on all hosts");
        let Some(root) = config.paths.get(usize::from(path.root())) else {
            return Some(format!("{path} is below root number {}: {hint}", path.root()));
        };
        if self.excludes(path) {
            return Some(format!("{path} is excluded here: {hint}"));
        }
        match &entry.kind {
            Kind::File { .. } if !config.setuid && entry.mode & meta::SETUID != 0 => {
                Some(format!("{path} has a set-user-id bit, which is not kept here: {hint}"))
            }
            Kind::Link { target } if !config.outward_links && leads_out(root, path, target) => {
                Some(format!("{path} is a link out of its root, which is not kept here: {hint}"))
            }
            _ => None,
        }
    }
}

/// A link at `path` below `root` that points to `target` leads out of the root, by its letters.
pub(crate) fn leads_out(root: &Path, path: &RelPath, target: &[u8]) -> bool {
    let target = Path::new(OsStr::from_bytes(target));
    let inside = match target.strip_prefix(root) {
        Ok(inside) => inside,
        Err(_) if target.is_absolute() => return true,
        Err(_) => target,
    };
    // Folders between the root and where the link is read from.
    let mut depth = if target.is_absolute() {
        0
    } else {
        path.as_bytes().iter().filter(|b| **b == b'/').count()
    };
    for component in inside.components() {
        match component {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn links_that_lead_out_are_told_from_those_that_stay() {
        let root = Path::new("/srv/state");
        let out = |path: &str, target: &str| {
            leads_out(root, &RelPath::new(0, path.as_bytes()).unwrap(), target.as_bytes())
        };
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", "../x"),
            ("d/a", "../../x"),
            ("a", "/srv/state/../x"),
            ("a", "/srv/state2"),
            ("d/a", "b/../../../x"),
        ] {
            assert!(out(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", "b"),
            ("d/a", "../x"),
            ("a", "/srv/state/d/x"),
            ("a", "d/../b"),
            ("d/e/a", "../.."),
        ] {
            assert!(!out(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn a_pattern_without_a_slash_names_the_last_component() {
        let config = crate::testing::config(&[Path::new("/r")], |c| {
            c.exclude = ["*.tmp", "cache/*", "/top", "logs/"].map(Into::into).to_vec();
        });
        let rules = Rules::new(&config).unwrap();
        let deep = |path: &str| rules.excludes_deep(&RelPath::new(0, path.as_bytes()).unwrap());
        for path in ["a.tmp", "d/a.tmp", "cache/x", "cache/x/y", "top", "logs", "d/logs", "logs/x"]
        {
            assert!(deep(path), "{path}");
        }
        for path in ["a", "d/cache/x", "d/top", "a.tmp.x", "cache"] {
            assert!(!deep(path), "{path}");
        }
    }
}
