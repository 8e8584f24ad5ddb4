//! The places that a scan has to look at, each of them once: a folder that is new is looked through as a whole, however many
//! names in it were told.

use crate::manifest::Kind;
use crate::path::RelPath;
use crate::plan::ancestors;
use crate::set::Place;
use crate::tree::Tree;
use std::collections::BTreeSet;

/// `places`, as a scan beside `base` needs them. What is told of a folder that is not known yet is that folder.
pub(crate) fn narrowed(base: &Tree, places: impl IntoIterator<Item = Place>) -> Vec<Place> {
    let known = |path: &RelPath| base.get(path).is_some_and(|(e, _)| e.kind == Kind::Folder);
    let (mut deep, mut flat) = (BTreeSet::new(), BTreeSet::new());
    for place in places {
        let new = ancestors(&place.path).find(|folder| !known(folder));
        match new {
            Some(folder) => drop(deep.insert(folder)),
            None if place.deep => drop(deep.insert(place.path)),
            None => drop(flat.insert(place.path)),
        }
    }
    let covered = |path: &RelPath| ancestors(path).any(|folder| deep.contains(&folder));
    let flat = flat.iter().filter(|path| !deep.contains(*path) && !covered(path));
    let flat = flat.map(|path| Place { path: path.clone(), deep: false });
    let tops = deep.iter().filter(|path| !covered(path));
    tops.map(|path| Place { path: path.clone(), deep: true }).chain(flat).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::manifest::Entry;
    use crate::tree::Mark;
    use std::sync::Arc;

    fn place(path: &str, deep: bool) -> Place {
        Place { path: RelPath::new(0, path.as_bytes()).unwrap(), deep }
    }

    #[test]
    fn a_new_folder_is_one_place_however_many_of_its_names_are_told() {
        let entry = |path: &str| Entry {
            path: place(path, true).path,
            kind: Kind::Folder,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        let known =
            ["known", "known/below", "gone"].map(|path| (Arc::new(entry(path)), Mark::default()));
        let base = Tree::new(known.into());
        let told = (0..1000).map(|number| place(&format!("known/new/{number}"), false));
        let others = [
            place("known/new/sub", true),
            place("known/file", false),
            place("known/below/file", false),
            place("gone", true),
            place("gone/file", false),
            place("gone", false),
            place("top", false),
        ];
        let wanted = [
            place("gone", true),
            place("known/new", true),
            place("known/below/file", false),
            place("known/file", false),
            place("top", false),
        ];
        assert_eq!(narrowed(&base, told.chain(others)), wanted);
    }
}
