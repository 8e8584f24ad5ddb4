//! From one tree to the next: what arrives, and what becomes of what was there.

use crate::common::{Host, assert_same, push, rel, settle, sync};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use vipd_replicator::manifest::Kind;
use vipd_replicator::ports::Behind;
use vipd_replicator::set::{Place, Scope};
use vipd_replicator::testing::Transfer;

/// Something of everything that a set may hold.
pub(crate) fn varied(a: &Host) {
    for number in 0..8 {
        a.write(&format!("many/{number}"), format!("content {number}"));
    }
    a.write("deep/er/and/deeper/file", "deep");
    a.write("same-1", "the same");
    a.write("same-2", "the same");
    a.write("empty", "");
    a.write("big", vec![7_u8; 700_000]);
    a.write("name with \u{fc} and \n", "odd");
    let mut sparse = vec![0_u8; 300_000];
    sparse[299_999] = 1;
    a.write("sparse", sparse);
    fs::create_dir_all(a.path("no-files/in-here")).unwrap();
    symlink("../same-1", a.path("deep/link")).unwrap();
    symlink("nowhere", a.path("dangling")).unwrap();
    fs::set_permissions(a.path("same-2"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(a.path("no-files"), PermissionsExt::from_mode(0o2750)).unwrap();
    std::os::unix::fs::chown(a.path("same-1"), Some(12), Some(34)).unwrap();
    std::os::unix::fs::lchown(a.path("dangling"), Some(12), Some(34)).unwrap();
}

/// Changes of every kind against [`varied`].
pub(crate) fn change(a: &Host) {
    a.write("many/0", "other");
    a.remove("many/1");
    a.write("many/new", "new");
    fs::rename(a.path("many/2"), a.path("moved")).unwrap();
    a.remove("deep/er/and");
    // A folder becomes a file, a file becomes a folder, a link becomes a file, a file becomes a link.
    a.remove("no-files");
    a.write("no-files", "a file now");
    a.remove("empty");
    a.write("empty/inside", "a folder now");
    a.remove("dangling");
    a.write("dangling", "a file now");
    a.remove("same-2");
    symlink("same-1", a.path("same-2")).unwrap();
    // Owner, mode, time only.
    fs::set_permissions(a.path("same-1"), PermissionsExt::from_mode(0o640)).unwrap();
    fs::File::open(a.path("sparse")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(a.path("deep"), PermissionsExt::from_mode(0o711)).unwrap();
    a.remove("deep/link");
    symlink("er", a.path("deep/link")).unwrap();
    let mut big = fs::read(a.path("big")).unwrap();
    big[350_000] = 8;
    a.write("big", big);
}

fn there_and_back(atomic: bool) {
    let (a, b) = (Host::with("a", |c| c.atomic = atomic), Host::with("b", |c| c.atomic = atomic));
    varied(&a);
    a.claim(1, 1);
    sync(&a, &b);
    b.assert_clean();
    assert_eq!(fs::metadata(b.own("")).unwrap().permissions().mode() & 0o7777, 0o700);
    let sparse = fs::metadata(b.path("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.len(), "zeros became holes");
    let old: Vec<_> = ["many/0", "many/1", "big"].map(|p| fs::read(b.path(p)).unwrap()).into();
    settle();
    change(&a);
    sync(&a, &b);
    b.assert_clean();
    let trash = b.kept("trash");
    for content in old {
        assert!(trash.iter().any(|(_, kept)| *kept == content), "a version is not in the trash");
    }
    assert_eq!(b.kept("rescue"), [], "nothing of it was changed there");
    // Nothing new: nothing is made.
    assert!(!a.seal().new);
    for entry in [&a, &b] {
        assert_eq!(entry.set().position().generation, 2);
        let log = entry.set().log().unwrap();
        assert_eq!(log.len(), 2);
        assert_eq!(log[1].position, (1, 1, 2));
        assert_eq!(entry.set().report().alarms, [] as [String; 0]);
    }
    // The other way.
    a.set().follow(crate::common::epoch(2, 2)).unwrap();
    b.claim(2, 2);
    b.write("many/0", "back");
    sync(&b, &a);
    a.assert_clean();
    assert_eq!(a.kept("rescue"), []);
}

#[test]
fn a_folder_with_folders_in_it_becomes_a_link() {
    for atomic in [false, true] {
        let (a, b) =
            (Host::with("a", |c| c.atomic = atomic), Host::with("b", |c| c.atomic = atomic));
        a.write("d/deep/file", "1");
        a.write("stays", "1");
        a.claim(1, 1);
        sync(&a, &b);
        a.remove("d");
        symlink("stays", a.path("d")).unwrap();
        sync(&a, &b);
        b.assert_clean();
    }
}

#[test]
fn a_tree_of_everything_arrives_and_so_do_changes_of_every_kind() {
    there_and_back(false);
}

#[test]
fn a_tree_that_is_swapped_as_a_whole_arrives_as_well() {
    there_and_back(true);
}

#[test]
fn what_is_excluded_or_no_file_stays_where_it_is() {
    for atomic in [false, true] {
        let configure = |c: &mut vipd_core::config::model::Replicate| {
            c.atomic = atomic;
            c.exclude = ["*.tmp", "cache"].map(Into::into).to_vec();
        };
        let (a, b) = (Host::with("a", configure), Host::with("b", configure));
        a.write("d/file", "1");
        a.write("d/x.tmp", "of a");
        a.write("cache/deep/x", "of a");
        let socket = std::os::unix::net::UnixListener::bind(a.path("socket")).unwrap();
        symlink("/etc/passwd", a.path("out")).unwrap();
        b.write("d/x.tmp", "of b");
        b.write("cache/deep/x", "of b");
        a.claim(1, 1);
        let sealed = a.set().seal(&Scope::Everything).unwrap();
        assert_eq!(sealed.skipped.len(), 2, "{:?}", sealed.skipped);
        assert_eq!(a.set().report().alarms.len(), 1);
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        assert_eq!(b.read("d/file"), "1");
        assert_eq!((b.read("d/x.tmp"), b.read("cache/deep/x")), ("of b".into(), "of b".into()));
        assert!(!b.path("socket").exists() && !b.path("out").is_symlink());
        // The folder goes, but what is excluded in it does not.
        a.remove("d");
        a.write("other", "2");
        a.seal();
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        assert!(!b.path("d/file").exists());
        assert_eq!(b.read("d/x.tmp"), "of b");
        // It comes back as a file: what is in its way is kept aside.
        a.write("d", "a file");
        a.seal();
        if !atomic {
            assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
            assert_eq!(b.read("d"), "a file");
            assert!(b.kept("rescue").iter().any(|(_, content)| content == b"of b"));
        }
        b.assert_clean();
        drop(socket);
    }
}

#[test]
fn rights_and_attributes_are_as_the_set_says() {
    let configure = |xattrs, setuid| {
        move |c: &mut vipd_core::config::model::Replicate| (c.xattrs, c.setuid) = (xattrs, setuid)
    };
    let attribute = |host: &Host, path: &str| {
        let mut value = vec![0; 64];
        let length = rustix::fs::getxattr(host.path(path), "user.color", value.as_mut_slice());
        length.ok().map(|length| value[..length].to_vec())
    };
    for (xattrs, setuid) in [(false, false), (true, true)] {
        let a = Host::with("a", configure(xattrs, setuid));
        let b = Host::with("b", configure(xattrs, setuid));
        a.write("tool", "#!");
        fs::set_permissions(a.path("tool"), PermissionsExt::from_mode(0o4755)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(error) = rustix::fs::setxattr(a.path("tool"), "user.color", b"red", flags) {
            return crate::common::skipped(format!("no attributes here: {error}"));
        }
        a.claim(1, 1);
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        let mode = fs::metadata(b.path("tool")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if setuid { 0o4755 } else { 0o755 });
        assert_eq!(attribute(&b, "tool"), xattrs.then(|| b"red".to_vec()));
        if xattrs {
            rustix::fs::removexattr(a.path("tool"), "user.color").unwrap();
            sync(&a, &b);
            assert_eq!(attribute(&b, "tool"), None);
        }
    }
}

#[test]
fn a_host_with_another_configuration_takes_nothing() {
    let a = Host::with("a", |c| c.setuid = true);
    let b = Host::new("b");
    a.write("tool", "#!");
    fs::set_permissions(a.path("tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    a.claim(1, 1);
    let refusal = push(&a, &b).unwrap_err();
    assert!(refusal.to_string().contains("must be the same on all hosts"), "{refusal}");
    assert!(!b.path("tool").exists());
}

#[test]
fn what_was_staged_before_a_cut_is_not_sent_again_unless_it_is_corrupt() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for name in ["1", "2", "3", "4"] {
        // Large ones: small ones are of no use in part.
        a.write(name, format!("content of {name}").repeat(100_000));
    }
    a.claim(1, 1);
    let offer = a.set().source().offer().unwrap();
    let mut target = b.set().target();
    let mut stage = target.take("a", &offer).unwrap();
    let needs = stage.needs();
    assert_eq!(needs.len(), 4);
    let content = |need: u32| {
        let entry = &offer.manifest.entries()[need as usize];
        (entry, fs::read(a.path(&entry.path.to_string())).unwrap())
    };
    for need in &needs[..2] {
        let (entry, content) = content(need.entry);
        let mut file = stage.create(entry).unwrap();
        file.put(0, &content).unwrap();
        file.finish().unwrap();
    }
    // Half of the third; the wrong content for the fourth.
    let (third, octets) = content(needs[2].entry);
    let mut file = stage.create(third).unwrap();
    file.put(0, &octets[..7]).unwrap();
    drop(file);
    let (fourth, octets) = content(needs[3].entry);
    let mut file = stage.create(fourth).unwrap();
    file.put(0, &vec![b'x'; octets.len()]).unwrap();
    assert!(file.finish().is_err());
    drop(stage);
    assert_eq!(b.tree().len(), 0, "nothing shows before the commit");
    // One octet of what was complete rots.
    let complete: Vec<_> =
        fs::read_dir(b.own("stage/c")).unwrap().map(|e| e.unwrap().path()).collect();
    let mut octets = fs::read(&complete[0]).unwrap();
    octets[3] ^= 1;
    fs::write(&complete[0], octets).unwrap();
    let stage = target.take("a", &offer).unwrap();
    assert_eq!(stage.needs().len(), 3, "one of two complete ones is whole");
    let mut base = Vec::new();
    std::io::Read::read_to_end(&mut stage.base(third).unwrap(), &mut base).unwrap();
    assert_eq!(base, content(needs[2].entry).1[..7]);
    drop(stage);
    assert_eq!(b.set().report().errors["corrupt-stage"], 1);
    sync(&a, &b);
    b.assert_clean();
}

#[test]
fn only_what_changed_is_read_and_sent() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("one", "1");
    a.write("two", "2");
    a.write("folder/three", "3");
    a.claim(1, 1);
    sync(&a, &b);
    settle();
    a.write("one", "11");
    a.write("two", "22");
    a.write("fresh/deep/four", "4");
    a.remove("folder");
    let place = |path: &str, deep| Place { path: rel(path), deep };
    let scope = Scope::Places(vec![place("one", false)]);
    assert!(a.set().seal(&scope).unwrap().new);
    let offer = a.set().source().offer().unwrap();
    assert_eq!(offer.manifest.entries().len(), 4, "nothing else was looked at");
    let scope = Scope::Places(vec![
        place("two", false),
        place("fresh/deep/four", false),
        place("folder/three", false),
    ]);
    assert!(a.set().seal(&scope).unwrap().new);
    let mut target = b.set().target();
    let offer = a.set().source().offer().unwrap();
    let stage = target.take("a", &offer).unwrap();
    assert_eq!(stage.needs().len(), 3);
    drop(stage);
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
    assert_same(&a, &b);
    // A file that moved is not sent.
    fs::rename(a.path("fresh/deep/four"), a.path("five")).unwrap();
    a.seal();
    let offer = a.set().source().offer().unwrap();
    assert_eq!(target.take("a", &offer).unwrap().needs(), []);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_sealed_and_sent_anew() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "before");
    a.claim(1, 1);
    a.write("file", "after.");
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Changed));
    // Whatever the service asks for, it is looked at.
    assert!(a.set().seal(&Scope::Places(Vec::new())).unwrap().new);
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
    assert_eq!(b.read("file"), "after.");
}

#[test]
fn a_file_that_never_rests_keeps_its_last_good_version() {
    let a = Host::new("a");
    a.write("quiet", "q");
    a.write("busy", "good");
    a.claim(1, 1);
    let hash = |host: &Host| {
        let offer = host.set().source().offer().unwrap();
        let entry = offer.manifest.get(&rel("busy")).unwrap().clone();
        matches!(entry.kind, Kind::File { size: 4, .. })
    };
    assert!(hash(&a));
    settle();
    // Large enough that a change falls into each reading of it.
    let file = fs::File::create(a.path("busy")).unwrap();
    file.set_len(400_000_000).unwrap();
    let (stop, begun) = (std::sync::atomic::AtomicBool::new(false), std::sync::Barrier::new(2));
    let path = a.path("busy");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut octet = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                octet += 1;
                std::os::unix::fs::FileExt::write_at(&file, &octet.to_be_bytes(), 5).unwrap();
                if octet == 1 {
                    begun.wait();
                }
            }
        });
        begun.wait();
        let sealed = a.seal();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(sealed.deferred, [rel("busy")]);
    });
    assert!(hash(&a), "the good version is still in the tree");
    assert!(a.set().seal(&Scope::Places(Vec::new())).unwrap().new, "it rests, and is taken");
    assert!(!hash(&a));
}

#[test]
fn names_from_the_network_cannot_leave_the_root() {
    // A link that leads out, and a file behind it: the manifest itself is refused.
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("d/file", "1");
    a.claim(1, 1);
    let mut offer = a.set().source().offer().unwrap();
    let mut entries = offer.manifest.entries().to_vec();
    std::sync::Arc::make_mut(&mut entries[0]).kind = Kind::Link { target: b"/tmp".to_vec() };
    offer.manifest = std::sync::Arc::new(vipd_replicator::manifest::Manifest::new(entries));
    offer.root = offer.manifest.root();
    let refusal = b.set().target().take("a", &offer).err().unwrap();
    assert!(refusal.to_string().contains("link"), "{refusal}");
    let mut entries = offer.manifest.entries().to_vec();
    std::sync::Arc::make_mut(&mut entries[0]).kind = Kind::Link { target: b"e".to_vec() };
    offer.manifest = std::sync::Arc::new(vipd_replicator::manifest::Manifest::new(entries));
    offer.root = offer.manifest.root();
    let refusal = b.set().target().take("a", &offer).err().unwrap();
    assert!(refusal.to_string().contains("in no folder"), "{refusal}");
    offer.root[0] ^= 1;
    assert!(b.set().target().take("a", &offer).is_err());
    assert_eq!(b.tree().len(), 0);
}

#[test]
fn several_roots_are_one_tree() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sets: Vec<_> = dirs
        .iter()
        .map(|dir| {
            let roots = ["x", "y"].map(|root| dir.path().join(root));
            for root in &roots {
                fs::create_dir(root).unwrap();
            }
            let roots: Vec<&Path> = roots.iter().map(|p| p.as_path()).collect();
            let config = vipd_replicator::testing::config(&roots, |_| {});
            let clock = vipd_replicator::clock::Clock::system();
            vipd_replicator::set::Set::open(config, &dir.path().join("state"), clock).unwrap()
        })
        .collect();
    fs::write(dirs[0].path().join("x/file"), "in x").unwrap();
    fs::write(dirs[0].path().join("y/file"), "in y").unwrap();
    sets[0].claim(crate::common::epoch(1, 1)).unwrap();
    sets[0].seal(&Scope::Everything).unwrap();
    let (mut source, mut target) = (sets[0].source(), sets[1].target());
    vipd_replicator::testing::transfer(("a", &mut *source), ("b", &mut *target)).unwrap();
    for root in ["x", "y"] {
        let path = dirs[1].path().join(root).join("file");
        assert_eq!(fs::read_to_string(path).unwrap(), format!("in {root}"));
    }
    let path = dirs[1].path().join("y/file");
    assert_eq!(sets[1].name(&path).unwrap().root(), 1);
}

#[test]
fn a_standby_that_was_put_back_has_to_acknowledge_anew() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(1, 1);
    let (before, root) = (a.set().position(), a.set().root());
    a.write("file", "two");
    sync(&a, &b);
    a.set().source().acknowledged("b", a.set().position(), a.set().root());
    assert!(a.set().report().peers[0].in_sync);
    a.set().source().peer_stands("b", before, root);
    assert!(!a.set().report().peers[0].in_sync);
}

#[test]
fn a_standby_whose_files_drifted_is_not_current_until_the_same_tree_repairs_it() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "right");
    a.claim(1, 1);
    sync(&a, &b);
    settle();
    b.write("file", "wrong");
    assert_eq!(b.set().drift().unwrap(), [rel("file")]);
    let age = || b.set().report().age_ms.unwrap_or(u64::MAX);
    b.hands.pass(60_000);
    b.set().target().current("a", b.set().position(), Behind::default());
    assert!(age() >= 60_000, "{}", age());
    // Offered again as it is.
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
    assert_same(&a, &b);
    b.set().target().current("a", b.set().position(), Behind::default());
    assert_eq!(age(), 0);
}
