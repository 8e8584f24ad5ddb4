//! What operators ask for: verify, versions, restore; and the bounds of the trash.

use crate::common::{Host, rel, settle, sync};
use std::fs;
use std::sync::atomic::AtomicBool;

#[test]
fn verify_finds_a_rotten_octet_and_the_next_tree_heals_it() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("good", "good");
    a.write("bad", "sound");
    a.claim(1, 1);
    sync(&a, &b);
    let stop = AtomicBool::new(false);
    let verified = b.set().verify(None, &stop).unwrap();
    assert_eq!((verified.files, verified.bytes, verified.differing.len()), (2, 9, 0));
    // Same size, same time: only the content tells.
    let time = fs::metadata(b.path("bad")).unwrap().modified().unwrap();
    b.write("bad", "sOund");
    fs::File::open(b.path("bad")).unwrap().set_modified(time).unwrap();
    let verified = b.set().verify(Some(1_000_000_000), &stop).unwrap();
    assert_eq!(verified.differing, [(rel("bad"), "other content".to_owned())]);
    assert!(b.set().report().alarms.iter().any(|alarm| alarm.contains("bad")));
    assert!(b.set().report().verified_s.is_some());
    a.write("more", "x");
    sync(&a, &b);
    assert_eq!(b.set().verify(None, &stop).unwrap().differing, []);
    assert_eq!(b.set().report().alarms.len(), 1, "the rescue folder holds the rotten one");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(b.set().verify(None, &stop).is_err());
}

#[test]
fn the_trash_keeps_so_many_versions_of_each_file_and_a_version_comes_back() {
    for atomic in [false, true] {
        let configure = |c: &mut vipd_core::config::model::Replicate| {
            (c.trash_versions, c.atomic) = (3, atomic);
        };
        let (mut a, mut b) = (Host::with("a", configure), Host::with("b", configure));
        a.write("often/file", "0");
        a.write("once", "first");
        a.claim(1, 1);
        sync(&a, &b);
        settle();
        a.write("once", "second");
        for number in 1..8 {
            a.write("often/file", number.to_string());
            sync(&a, &b);
            b.hands.step_wall(60);
            b.set().thin().unwrap();
        }
        let versions = b.set().versions(&rel("often/file")).unwrap();
        let names: Vec<_> = versions.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["trash/1.1.8", "trash/1.1.7", "trash/1.1.6"]);
        assert!(versions[0].kept_s > versions[1].kept_s);
        let once = b.set().versions(&rel("once")).unwrap();
        assert_eq!((once.len(), once[0].size), (1, 5), "old, but one of few");
        // A standby gives it to another place only, and never over something.
        let error = b.set().restore(&rel("often/file"), "trash/1.1.7", None).unwrap_err();
        assert!(error.to_string().contains("standby"), "{error}");
        let to = b.base.join("restored");
        b.set().restore(&rel("often/file"), "trash/1.1.7", Some(&to)).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "5");
        assert!(b.set().restore(&rel("often/file"), "trash/1.1.7", Some(&to)).is_err());
        for wrong in ["trash/1.1.2", "trash/../../root", "stage/c", "", "trash/1.1.8~4"] {
            assert!(b.set().restore(&rel("often/file"), wrong, None).is_err(), "{wrong}");
        }
        // The owner puts it in place, and what was there is kept.
        a.set().follow(crate::common::epoch(2, 2)).unwrap();
        b.claim(2, 2);
        sync(&b, &a);
        b.set().restore(&rel("often/file"), "trash/1.1.7", None).unwrap();
        assert_eq!(b.read("often/file"), "5");
        assert!(b.kept("trash").iter().any(|(_, content)| content == b"7"));
        sync(&b, &a);
        assert_eq!(a.read("often/file"), "5");
        // Its time is over.
        b.hands.step_wall(8 * 86_400);
        b.set().prune().unwrap();
        assert_eq!(b.kept("trash"), []);
        // And without a trash nothing is kept.
        for host in [&mut a, &mut b] {
            host.reconfigure(|c| (c.trash_versions, c.atomic) = (0, atomic));
        }
        b.set().claim(crate::common::epoch(2, 2)).unwrap();
        let before = a.kept("trash").len();
        settle();
        b.write("once", "third");
        sync(&b, &a);
        assert_eq!((a.kept("trash").len(), a.kept("rescue").len()), (before, 0));
    }
}

#[test]
fn a_copy_elsewhere_belongs_to_whom_the_kept_file_belongs_and_gives_no_rights() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("key", "secret");
    if let Err(error) = chown(a.path("key"), Some(12), Some(34)) {
        return crate::common::skipped(error);
    }
    fs::set_permissions(a.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    a.claim(1, 1);
    sync(&a, &b);
    a.write("key", "changed");
    sync(&a, &b);
    let (version, to) = (b.set().versions(&rel("key")).unwrap().remove(0).name, b.base.join("to"));
    b.set().restore(&rel("key"), &version, Some(&to)).unwrap();
    let there = fs::metadata(&to).unwrap();
    assert_eq!((there.uid(), there.gid(), there.mode() & 0o7777), (12, 34, 0o640));
    assert_eq!(fs::read_to_string(&to).unwrap(), "secret");
}
