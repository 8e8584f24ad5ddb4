//! Disks that are full, read-only or corrupt, roots that are not there, links that are swapped in, clocks that step.

use crate::common::{Host, epoch, push, settle, skipped, sync};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use vipd_replicator::clock::Clock;
use vipd_replicator::error::Error;
use vipd_replicator::fail::{self, Action};
use vipd_replicator::ports::Refusal;
use vipd_replicator::set::{Scope, Set};
use vipd_replicator::testing::Transfer;

/// Runs `body` on a thread in a mount namespace of its own, where that is allowed, with a folder to mount in. Who made the
/// folder outside can remove it, whatever is still mounted there inside.
pub(crate) fn alone(body: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use nix::mount::{MsFlags, mount};
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS) {
                return skipped(format!("no mount namespace: {error}"));
            }
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
            body(dir.path());
        });
    });
}

pub(crate) fn tmpfs(at: &Path, options: &str) {
    let (kind, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
    nix::mount::mount(kind, at, kind, flags, Some(options)).unwrap();
}

pub(crate) fn umount(at: &Path) {
    nix::mount::umount(at).unwrap();
}

/// While it lives nobody may change what is in a folder.
struct Immutable(PathBuf);

impl Immutable {
    /// `None`: the file system or the user cannot say so.
    fn new(folder: PathBuf) -> Option<Self> {
        Self::set(&folder, true).then(|| Self(folder))
    }

    fn set(folder: &Path, yes: bool) -> bool {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let folder = fs::File::open(folder).unwrap();
        let Ok(flags) = ioctl_getflags(&folder) else { return false };
        let flags = if yes { flags | IFlags::IMMUTABLE } else { flags - IFlags::IMMUTABLE };
        ioctl_setflags(&folder, flags).is_ok()
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        assert!(Self::set(&self.0, false) || std::thread::panicking());
    }
}

#[test]
fn a_tree_that_can_never_be_finished_does_not_hold_up_the_one_that_can() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("other/file", "1");
    a.write("sub/file", "1");
    a.claim(1, 1);
    sync(&a, &b);
    let Some(closed) = Immutable::new(b.path("sub")) else {
        return skipped("no immutable folders: not root, or another file system");
    };
    a.write("other/file", "2");
    a.write("sub/new", "2");
    a.seal();
    let first = push(&a, &b).unwrap_err();
    assert!(matches!(first, Refusal::Disk(_)), "{first}");
    // The same again waits for whoever made it so; without what stands in the way the next one is taken.
    let again = push(&a, &b).unwrap_err();
    assert!(matches!(again, Refusal::Disk(_)), "{again}");
    a.remove("sub/new");
    a.seal();
    let done = push(&a, &b);
    drop(closed);
    assert!(matches!(done, Ok(Transfer::Done)), "{done:?}: {:?}", b.set().report().alarms);
    assert_eq!((b.read("other/file"), b.read("sub/file")), ("2".to_owned(), "1".to_owned()));
    b.assert_clean();
}

#[test]
fn a_full_disk_refuses_the_tree_and_keeps_the_old_one() {
    alone(|dir| {
        let base = dir.join("b");
        fs::create_dir_all(base.join("root")).unwrap();
        tmpfs(&base.join("root"), "size=1m,nr_inodes=40");
        let (a, b) = (Host::new("a"), Host::at("b", &base, |_| {}));
        a.write("file", "old");
        a.claim(1, 1);
        sync(&a, &b);
        // Too large by its size: said before anything is sent.
        a.write("large", vec![7; 2_000_000]);
        a.write("file", "new");
        a.seal();
        let refusal = push(&a, &b).unwrap_err();
        assert!(matches!(&refusal, Refusal::Disk(text) if text.contains("make room")), "{refusal}");
        assert_eq!(b.read("file"), "old");
        assert!(b.set().report().alarms.iter().any(|alarm| alarm.contains("make room")));
        a.remove("large");
        // Too many files: found in the middle.
        for number in 0..60 {
            a.write(&format!("many/{number}"), number.to_string());
        }
        a.seal();
        let refusal = push(&a, &b).unwrap_err();
        assert!(matches!(&refusal, Refusal::Disk(_)), "{refusal}");
        assert_eq!((b.read("file"), b.tree().len()), ("old".to_owned(), 1));
        // Room is made: it goes on without a hand.
        nix::mount::mount(
            None::<&str>,
            &base.join("root"),
            None::<&str>,
            nix::mount::MsFlags::MS_REMOUNT,
            Some("size=4m,nr_inodes=1000"),
        )
        .unwrap();
        sync(&a, &b);
        b.assert_clean();
        assert_eq!(b.set().report().alarms, [] as [String; 0]);
    });
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_the_renames_is_finished_later() {
    alone(|dir| {
        let base = dir.join("b");
        fs::create_dir_all(base.join("state")).unwrap();
        tmpfs(&base.join("state"), "size=64k");
        let (a, mut b) = (Host::new("a"), Host::at("b", &base, |_| {}));
        a.write("file", "old");
        a.claim(1, 1);
        sync(&a, &b);
        a.write("file", "new");
        a.seal();
        // The state folder fills up: no intent, no record.
        let filler = base.join("state/filler");
        let _ = fs::write(&filler, vec![1; 60_000]);
        let _ = fs::write(base.join("state/filler2"), vec![1; 8_000]);
        assert!(matches!(push(&a, &b), Err(Refusal::Disk(_))));
        assert_eq!(b.read("file"), "old");
        b.reopen();
        assert_eq!(b.set().position().generation, 1);
        fs::remove_file(&filler).unwrap();
        fs::remove_file(base.join("state/filler2")).unwrap();
        sync(&a, &b);
    });
}

#[test]
fn a_read_only_target_refuses_and_recovers() {
    alone(|dir| {
        let base = dir.join("b");
        fs::create_dir_all(base.join("root")).unwrap();
        tmpfs(&base.join("root"), "size=1m");
        let (a, b) = (Host::new("a"), Host::at("b", &base, |_| {}));
        a.write("file", "old");
        a.claim(1, 1);
        sync(&a, &b);
        let remount = |flags| {
            let flags = nix::mount::MsFlags::MS_REMOUNT | flags;
            nix::mount::mount(None::<&str>, &base.join("root"), None::<&str>, flags, None::<&str>)
                .unwrap();
        };
        remount(nix::mount::MsFlags::MS_RDONLY);
        a.write("file", "new");
        a.seal();
        let refusal = push(&a, &b).unwrap_err();
        assert!(matches!(&refusal, Refusal::Disk(text) if text.contains("writable")), "{refusal}");
        assert_eq!(b.read("file"), "old");
        remount(nix::mount::MsFlags::empty());
        sync(&a, &b);
    });
}

#[test]
fn a_root_that_is_not_mounted_is_never_an_empty_tree() {
    alone(|dir| {
        let (bases, mut hosts) = (["a", "b"].map(|name| dir.join(name)), Vec::new());
        for (base, name) in bases.iter().zip(["a", "b"]) {
            fs::create_dir_all(base.join("root")).unwrap();
            tmpfs(&base.join("root"), "size=1m");
            hosts.push(Host::at(name, base, |c| c.require_mount = true));
        }
        let [a, b] = hosts.as_slice() else { unreachable!() };
        a.write("file", "1");
        a.claim(1, 1);
        sync(a, b);
        for (base, other) in [(&bases[0], b), (&bases[1], a)] {
            umount(&base.join("root"));
            if base == &bases[0] {
                let error = a.set().seal(&Scope::Everything).unwrap_err();
                assert!(
                    matches!(&error, Error::Root(text) if text.contains("no mount point")),
                    "{error}"
                );
                assert!(a.set().report().alarms.iter().any(|alarm| alarm.contains("mount it")));
                assert_eq!(other.read("file"), "1");
            } else {
                a.write("file", "2");
                a.seal();
                assert!(matches!(push(a, b), Err(Refusal::Disk(text)) if text.contains("mount")));
                assert!(!b.path("file").exists(), "nothing was written below the mount point");
            }
            // Another file system in its place is not what it was either.
            tmpfs(&base.join("root"), "size=1m");
            let error = if base == &bases[0] {
                a.set().seal(&Scope::Everything).unwrap_err().to_string()
            } else {
                push(a, b).unwrap_err().to_string()
            };
            assert!(error.contains("not the folder that it was"), "{error}");
            // It was replaced on purpose.
            if base == &bases[0] {
                a.set().ack().unwrap();
                a.write("file", "1");
                a.seal();
                assert_eq!(a.set().report().alarms, [] as [String; 0]);
            } else {
                b.set().ack().unwrap();
                sync(a, b);
            }
        }
        // Other file systems inside of a root are left out.
        fs::create_dir(a.path("inner")).unwrap();
        tmpfs(&a.path("inner"), "size=1m");
        a.write("inner/file", "x");
        let sealed = a.seal();
        assert!(sealed.skipped[0].contains("another file system"), "{:?}", sealed.skipped);
        umount(&a.path("inner"));
        for base in &bases {
            umount(&base.join("root"));
        }
    });
}

#[test]
fn a_root_that_is_missing_or_a_link_is_an_error_that_says_so() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(1, 1);
    sync(&a, &b);
    fs::rename(a.base.join("root"), a.base.join("away")).unwrap();
    let error = a.set().seal(&Scope::Everything).unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
    symlink(a.base.join("away"), a.base.join("root")).unwrap();
    let error = a.set().seal(&Scope::Everything).unwrap_err().to_string();
    assert!(error.contains("is a link"), "{error}");
    fs::remove_file(a.base.join("root")).unwrap();
    fs::create_dir(a.base.join("root")).unwrap();
    let error = a.set().seal(&Scope::Everything).unwrap_err().to_string();
    assert!(error.contains("not the folder that it was"), "{error}");
    fs::remove_dir(a.base.join("root")).unwrap();
    fs::rename(a.base.join("away"), a.base.join("root")).unwrap();
    assert!(!a.seal().new, "it is back, and so is everything");
    assert_eq!(a.set().report().alarms, [] as [String; 0]);
}

#[test]
fn a_source_that_was_emptied_is_not_pushed() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.write("folder/file", "2");
    a.claim(1, 1);
    sync(&a, &b);
    a.remove("file");
    a.remove("folder");
    assert!(matches!(a.set().seal(&Scope::Everything), Err(Error::Guard(_))));
    assert!(
        matches!(push(&a, &b).unwrap(), Transfer::Done),
        "what is offered is the last good tree"
    );
    assert_eq!(b.read("file"), "1");
    assert!(a.set().report().alarms.iter().any(|alarm| alarm.contains("all 2 files are gone")));
    // It comes back by itself: no decision was needed.
    a.write("file", "1");
    a.write("folder/file", "2");
    a.seal();
    assert_eq!(a.set().report().alarms, [] as [String; 0]);
}

#[test]
fn a_link_that_is_swapped_in_for_a_folder_leads_nowhere() {
    for after_take in [false, true] {
        let outside = tempfile::tempdir().unwrap();
        let (a, b) = (Host::new("a"), Host::new("b"));
        a.write("d/file", "old");
        a.claim(1, 1);
        sync(&a, &b);
        fs::write(outside.path().join("file"), "outside").unwrap();
        a.write("d/file", "new");
        a.write("d/more", "new");
        a.seal();
        let swap = || {
            fs::rename(b.path("d"), b.path("d-away")).unwrap();
            symlink(outside.path(), b.path("d")).unwrap();
        };
        if after_take {
            let offer = a.set().source().offer().unwrap();
            let mut stage = b.set().target().take("a", &offer).unwrap();
            for need in stage.needs() {
                let entry = &offer.manifest.entries()[need.entry as usize];
                let mut file = stage.create(entry).unwrap();
                file.put(0, b"new").unwrap();
                file.finish().unwrap();
            }
            swap();
            assert!(matches!(stage.commit(), Err(Refusal::Disk(_))));
        } else {
            swap();
        }
        let untouched = || {
            assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "outside");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        };
        untouched();
        // The next attempt sees what is there, and puts it right; what is new here is found by a look at everything, and kept.
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        b.set().drift().unwrap();
        a.write("later", "x");
        sync(&a, &b);
        untouched();
        assert_eq!(b.read("d/file"), "new");
        let rescued: Vec<_> = b.kept("rescue").into_iter().map(|(_, content)| content).collect();
        assert!(rescued.contains(&b"old".to_vec()), "d-away was new here: {rescued:?}");
        b.assert_clean();
    }
}

#[test]
fn a_folder_that_is_moved_away_while_files_come_into_it_is_not_taken_for_the_tree() {
    const FILES: usize = 5;
    let scene = || {
        let (a, b) = (Host::new("a"), Host::new("b"));
        (0..FILES).for_each(|n| a.write(&format!("d/old{n}"), format!("old {n}")));
        a.claim(1, 1);
        sync(&a, &b);
        for n in 0..FILES {
            a.write(&format!("d/{n}"), n.to_string());
            a.write(&format!("d/old{n}"), format!("new {n}"));
        }
        a.seal();
        (a, b)
    };
    let (a, b) = scene();
    fail::arm(u64::MAX, Action::Count);
    push(&a, &b).unwrap();
    let steps = fail::disarm();
    let renames = steps.iter().enumerate().filter(|(_, step)| **step == "rename");
    let renames: Vec<_> = renames.map(|(at, _)| at as u64 + 1).collect();
    for replaced in [false, true] {
        let mut refused = 0;
        for at in &renames {
            let (a, b) = scene();
            let (d, away) = (b.path("d"), b.path("away"));
            fail::arm_call(*at, move || {
                fs::rename(&d, away).unwrap();
                if replaced {
                    // Another one in its place, with files that only this host has.
                    fs::create_dir(&d).unwrap();
                    (0..FILES).for_each(|n| fs::write(d.join(format!("old{n}")), "here").unwrap());
                }
            });
            let pushed = push(&a, &b);
            fail::disarm();
            match pushed {
                // After the last file came.
                Ok(Transfer::Done) => drop(b.set().drift().unwrap()),
                other => {
                    assert!(matches!(other, Err(Refusal::Disk(_))), "step {at}: {other:?}");
                    let alarms = b.set().report().alarms.join("\n");
                    assert!(alarms.contains("somebody changed what it needed"), "{alarms}");
                    refused += 1;
                }
            }
            a.write("later", "x");
            a.seal();
            push(&a, &b).unwrap();
            b.set().drift().unwrap();
            a.write("later still", "x");
            sync(&a, &b);
            // Everything that was there is in the tree or kept.
            let kept: Vec<_> =
                ["trash", "rescue"].into_iter().flat_map(|kind| b.kept(kind)).collect();
            let has = |content: &str| kept.iter().any(|(_, c)| c == content.as_bytes());
            for n in 0..FILES {
                assert!(has(&format!("old {n}")), "step {at}: old {n} is lost: {kept:?}");
            }
            assert!(!replaced || has("here"), "step {at}: {kept:?}");
            b.assert_clean();
        }
        assert!(refused >= 2 * FILES, "each time a file comes into it: {refused}");
    }
}

#[test]
fn what_may_not_have_reached_the_disk_is_not_believed_however_it_reads() {
    // More than are brought there one by one.
    const FILES: usize = 100;
    let (a, b) = (Host::new("a"), Host::new("b"));
    (0..FILES).for_each(|n| a.write(&n.to_string(), format!("content {n}")));
    a.claim(1, 1);
    fail::arm(u64::MAX, Action::Count);
    let missing = |b: &Host| {
        let offer = a.set().source().offer().unwrap();
        b.set().target().take("a", &offer).unwrap().needs().len()
    };
    assert_eq!(missing(&b), FILES);
    push(&a, &b).unwrap();
    let steps = fail::disarm();
    let synced = steps.iter().position(|step| *step == "syncfs").unwrap() as u64 + 1;
    let b = Host::new("b");
    fail::arm(synced, Action::Error);
    missing(&b);
    let refused = push(&a, &b);
    fail::disarm();
    assert!(matches!(refused, Err(Refusal::Disk(_))), "{refused:?}");
    assert_eq!(missing(&b), FILES, "all of it comes again");
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
    assert_eq!(b.read("7"), "content 7");
    b.assert_clean();
}

#[test]
fn a_corrupt_file_of_the_state_is_an_error_that_names_it() {
    for name in ["record", "tree.1", "intent"] {
        let (a, mut b) = (Host::new("a"), Host::new("b"));
        a.write("file", "1");
        a.claim(1, 1);
        sync(&a, &b);
        b.close();
        let state = b.base.join("state");
        let path = state.join("replicate/test").join(name);
        if name == "intent" {
            fs::write(&path, "vipd-replica 1 00\nnonsense").unwrap();
        } else {
            let mut octets = fs::read(&path).unwrap();
            let at = octets.len() - 20;
            octets[at] ^= 1;
            fs::write(&path, octets).unwrap();
        }
        let error = Set::open(b.config.clone(), &state, Clock::system()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }), "{text}");
        assert!(
            text.contains(&format!("replicate/test/{name}")) && text.contains("move"),
            "{text}"
        );
        assert_eq!(b.read("file"), "1");
        // What it says helps.
        fs::rename(state.join("replicate/test"), state.join("aside")).unwrap();
        b.reopen();
        a.write("file", "2");
        sync(&a, &b);
        assert_eq!(b.kept("rescue").iter().filter(|(_, c)| c == b"1").count(), 1);
    }
}

#[test]
fn an_alarm_of_a_step_that_failed_is_over_when_the_next_tree_is_in_place() {
    let play = |at: u64, action: Action| {
        let (a, b) = (Host::new("a"), Host::new("b"));
        a.write("file", "1");
        a.write("goes", "1");
        a.claim(1, 1);
        sync(&a, &b);
        a.write("file", "22");
        a.write("new/file", "1");
        a.remove("goes");
        a.seal();
        fail::arm(at, action);
        let _ = push(&a, &b);
        let steps = fail::disarm();
        let alarms = |host: &Host| host.set().report().alarms;
        let raised = [alarms(&a), alarms(&b)];
        for host in [&a, &b] {
            host.set().notices();
        }
        a.write("file", "333");
        sync(&a, &b);
        let what = format!("step {at}, {:?}", steps.last());
        for (host, raised) in [&a, &b].into_iter().zip(&raised) {
            assert_eq!(alarms(host), [] as [String; 0], "{what}: {}", host.name);
            let told = host.set().notices();
            for alarm in raised {
                let over = format!("over: {alarm}");
                assert!(told.iter().any(|notice| notice.text == over), "{what}: {told:?}");
            }
        }
        (steps.len() as u64, raised.concat().len())
    };
    let (steps, _) = play(u64::MAX, Action::Count);
    let raised: usize = (1..=steps).map(|at| play(at, Action::Error).1).sum();
    assert!(raised > 10, "{raised} alarms at {steps} steps");
}

#[test]
fn what_was_written_behind_the_record_never_happened() {
    let (a, mut b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(1, 1);
    sync(&a, &b);
    let path = b.base.join("state/replicate/test/tree.1");
    let mut octets = fs::read(&path).unwrap();
    octets.extend(b"half of the next");
    fs::write(&path, octets).unwrap();
    b.reopen();
    a.write("file", "2");
    sync(&a, &b);
    b.reopen();
    assert_eq!(b.set().position().generation, 2);
}

#[test]
fn a_clock_that_steps_changes_nothing_but_names() {
    let configure = |c: &mut vipd_core::config::model::Replicate| {
        c.trash_age = vipd_core::time::Duration::from_millis(86_400_000);
    };
    let (a, b) = (Host::with("a", configure), Host::with("b", configure));
    a.write("file", "1");
    a.claim(1, 1);
    sync(&a, &b);
    settle();
    a.write("file", "22");
    // Ten years back: what is kept now is dated before.
    b.hands.step_wall(-315_000_000);
    a.hands.step_wall(315_000_000);
    sync(&a, &b);
    b.set().prune().unwrap();
    assert_eq!(b.kept("trash").len(), 1);
    b.hands.step_wall(3600);
    b.set().prune().unwrap();
    assert_eq!(b.kept("trash").len(), 1);
    // Set right again, its age is over: that is what the wall clock says.
    b.hands.step_wall(315_000_000);
    b.set().prune().unwrap();
    assert_eq!(b.kept("trash").len(), 0);
    assert_eq!(b.read("file"), "22");
    a.set().follow(epoch(2, 2)).unwrap();
    b.claim(2, 2);
    b.write("file", "333");
    sync(&b, &a);
}
