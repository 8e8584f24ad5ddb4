//! A disk that forgets: files of the owner that read otherwise than they were sealed, with the times that they had.
//!
//! Played by two file systems in memory, on which files with different contents were made in the same moment, so that one
//! can be put in the place of the other and nothing but the content tells.

use crate::common::{Host, push, settle, skipped};
use crate::faults::{alone, tmpfs, umount};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use vipd_replicator::ports::Refusal;
use vipd_replicator::testing::Transfer;

const SOUND: &str = "sound";
const ROTTEN: &str = "s0und";
const PATH: &str = "folder/file";

/// Makes a file in both folders until the kernel gives both the same times; `false`: it never does.
fn twins((one, sound): (&Path, &str), (two, rotten): (&Path, &str)) -> bool {
    (0..500).any(|_| {
        for (path, content) in [(one, sound), (two, rotten)] {
            let _ = fs::remove_file(path);
            fs::write(path, content).unwrap();
        }
        let what = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            (meta.ino(), times)
        };
        what(one) == what(two)
    })
}

fn bind(from: &Path, to: &Path) {
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(from), to, None::<&str>, flags, None::<&str>).unwrap();
}

/// An owner whose file rots when [`Owner::rot`] is called.
struct Owner {
    host: Host,
    base: std::path::PathBuf,
}

impl Owner {
    /// `None`: that cannot be played here.
    fn new(base: &Path) -> Option<Self> {
        Self::of(base, &[("file", SOUND, ROTTEN)])
    }

    /// With these files, as they are sealed and as they are read then.
    fn of(base: &Path, files: &[(&str, &str, &str)]) -> Option<Self> {
        for name in ["one", "two"] {
            fs::create_dir_all(base.join(name)).unwrap();
            tmpfs(&base.join(name), "size=1m");
            for folder in ["root", "later"] {
                fs::create_dir(base.join(name).join(folder)).unwrap();
            }
        }
        for (name, sound, rotten) in files {
            let [one, two] = ["one", "two"].map(|top| base.join(top).join("later").join(name));
            if !twins((&one, sound), (&two, rotten)) {
                skipped("this kernel gives no two files the same times");
                return None;
            }
        }
        fs::rename(base.join("two/later"), base.join("two/root/folder")).unwrap();
        fs::create_dir_all(base.join("a/root")).unwrap();
        bind(&base.join("one/root"), &base.join("a/root"));
        let host = Host::at("a", &base.join("a"), |_| {});
        Some(Self { host, base: base.to_path_buf() })
    }

    /// The version that will rot comes in its place, and is sealed.
    fn change(&self) {
        fs::remove_dir_all(self.base.join("one/root/folder")).unwrap();
        fs::rename(self.base.join("one/later"), self.base.join("one/root/folder")).unwrap();
        settle();
        self.host.seal();
        assert_eq!(self.host.read(PATH), SOUND);
    }

    fn rot(&self) {
        let (from, to) = (self.base.join("one/root/.vipd"), self.base.join("two/root/.vipd"));
        fs::create_dir(&to).unwrap();
        fs::copy(from.join("id"), to.join("id")).unwrap();
        umount(&self.base.join("a/root"));
        bind(&self.base.join("two/root"), &self.base.join("a/root"));
        assert_eq!(self.host.read(PATH), ROTTEN);
        assert!(!self.host.seal().new, "nothing tells a scan");
    }
}

fn alarm(host: &Host, word: &str) -> Option<String> {
    host.set().report().alarms.into_iter().find(|alarm| alarm.contains(word))
}

#[test]
fn a_file_that_rots_holds_nothing_else_up_and_never_replaces_a_good_copy() {
    alone(|dir| {
        let Some(owner) = Owner::new(dir) else { return };
        let a = &owner.host;
        let [b, c, d] = ["b", "c", "d"].map(Host::new);
        a.set().standbys(["b", "c", "d"].map(str::to_owned));
        a.write(PATH, "version 1");
        a.claim(1, 1);
        // d has the version before, c the one that rots, b nothing.
        push(a, &d).unwrap();
        owner.change();
        push(a, &c).unwrap();
        owner.rot();
        a.write("other", "1");
        a.seal();
        d.hands.pass(1000);
        for number in 1..=5 {
            assert!(matches!(push(a, &b).unwrap(), Transfer::Changed), "{number}");
            assert_eq!(alarm(a, "rotten").is_some(), number == 5, "{number}");
            a.seal();
        }
        for host in [&b, &c, &d] {
            assert!(matches!(push(a, host).unwrap(), Transfer::Done), "{}", host.name);
            assert_eq!(host.read("other"), "1", "the rest goes on");
        }
        assert!(!b.path(PATH).exists());
        assert_eq!((c.read(PATH), d.read(PATH)), (SOUND.to_owned(), "version 1".to_owned()));
        // Who has what is known on both sides.
        let text = alarm(a, "rotten").unwrap();
        assert!(text.contains(PATH) && text.contains("as it was sealed: c)"), "{text}");
        let peers = a.set().report().peers;
        let rpo: Vec<_> = peers.iter().map(|peer| (peer.in_sync, peer.rpo_ms)).collect();
        assert_eq!(rpo, [(false, None), (true, Some(0)), (false, None)]);
        assert_eq!(a.set().report().rpo_ms, None);
        for host in [&b, &d] {
            assert!(alarm(host, "has lost").unwrap().contains(PATH));
            assert_eq!(host.set().drift().unwrap(), [], "what {} lacks is known", host.name);
        }
        assert_eq!((alarm(&c, "has lost"), c.set().report().age_ms), (None, Some(0)));
        let ages = [&b, &d].map(|host| host.set().report().age_ms);
        assert_eq!(ages, [None, Some(1000)], "neither is current, whatever it acknowledged");
        // More changes, and a restart of the standby: still the same.
        let mut b = b;
        a.write("other", "2");
        a.seal();
        b.reopen();
        for host in [&b, &c, &d] {
            push(a, host).unwrap();
            assert_eq!(host.read("other"), "2");
        }
        assert_eq!(b.set().report().age_ms, None);
        // A good copy ends it everywhere; what d had is kept.
        a.write(PATH, SOUND);
        a.seal();
        assert_eq!(alarm(a, "rotten"), None);
        for host in [&b, &c, &d] {
            push(a, host).unwrap();
            assert_eq!((host.read(PATH), host.tree()), (SOUND.to_owned(), a.tree()));
            assert_eq!(alarm(host, "has lost"), None);
            assert_eq!(host.set().report().age_ms, Some(0));
        }
        let kept = [d.kept("trash"), d.kept("rescue")].concat();
        assert!(kept.iter().any(|(_, content)| content == b"version 1"), "{kept:?}");
        assert_eq!(a.set().report().rpo_ms, Some(0));
    });
}

#[test]
fn the_content_of_a_rotten_file_is_read_from_another_that_has_the_same() {
    alone(|dir| {
        let Some(owner) = Owner::new(dir) else { return };
        let a = &owner.host;
        let [b, c] = ["b", "c"].map(Host::new);
        a.set().standbys(["b", "c"].map(str::to_owned));
        a.write(PATH, "version 1");
        a.claim(1, 1);
        owner.change();
        owner.rot();
        // Behind the other in the order of names: a standby asks for the first of those that are alike.
        a.write("twin", SOUND);
        a.seal();
        for _ in 0..5 {
            assert!(matches!(push(a, &b).unwrap(), Transfer::Changed));
            a.seal();
        }
        assert!(matches!(push(a, &b).unwrap(), Transfer::Done));
        assert_eq!((b.read(PATH), b.read("twin")), (SOUND.to_owned(), SOUND.to_owned()));
        assert_eq!(alarm(&b, "has lost"), None);
        assert!(a.set().report().peers[0].in_sync);
        let text = alarm(a, "rotten").unwrap();
        assert!(text.contains(PATH) && text.contains("twin here"), "{text}");
        // Without the twin nobody but b has it.
        a.write("twin", "another content");
        a.seal();
        assert!(matches!(push(a, &c).unwrap(), Transfer::Done));
        assert!(!c.path(PATH).exists() && c.read("twin") == "another content");
        let text = alarm(a, "rotten").unwrap();
        assert!(text.contains("as it was sealed: b)"), "{text}");
    });
}

#[test]
fn of_several_rotten_files_a_standby_is_said_to_have_none_that_it_lacks() {
    alone(|dir| {
        let files = [("file", SOUND, ROTTEN), ("more", "good", "g00d")];
        let Some(owner) = Owner::of(dir, &files) else { return };
        let (a, b) = (&owner.host, Host::new("b"));
        a.write(PATH, "version 1");
        a.claim(1, 1);
        owner.change();
        owner.rot();
        for _ in 0..10 {
            assert!(matches!(push(a, &b).unwrap(), Transfer::Changed));
        }
        assert!(matches!(push(a, &b).unwrap(), Transfer::Done));
        let text = alarm(a, "rotten").unwrap();
        assert!(text.contains("folder/more") && text.contains(PATH), "{text}");
        assert_eq!(text.matches("no host known").count(), 2, "{text}");
    });
}

#[test]
fn who_touches_a_rotten_file_accepts_what_it_holds_and_atomic_trees_wait() {
    alone(|dir| {
        let Some(owner) = Owner::new(dir) else { return };
        let a = &owner.host;
        let (b, c) = (Host::with("b", |c| c.atomic = true), Host::new("c"));
        a.write(PATH, "version 1");
        a.claim(1, 1);
        owner.change();
        push(a, &c).unwrap();
        owner.rot();
        for _ in 0..5 {
            assert!(matches!(push(a, &b).unwrap(), Transfer::Changed));
        }
        let refusal = push(a, &b).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Disk(text) if text.contains("atomic-set")),
            "{refusal}"
        );
        assert!(b.tree().is_empty());
        // As somebody who has looked at it.
        let now = std::time::SystemTime::now();
        fs::File::options().write(true).open(a.path(PATH)).unwrap().set_modified(now).unwrap();
        assert!(a.seal().new);
        assert_eq!(alarm(a, "rotten"), None);
        for host in [&b, &c] {
            assert!(matches!(push(a, host).unwrap(), Transfer::Done));
            assert_eq!(host.read(PATH), ROTTEN);
        }
        let kept = c.kept("trash");
        assert!(kept.iter().any(|(_, content)| content == SOUND.as_bytes()), "{kept:?}");
    });
}

#[test]
fn a_file_that_was_written_anew_is_not_rotten() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(1, 1);
    settle();
    a.seal();
    a.write("file", "2");
    for _ in 0..20 {
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Changed));
    }
    assert_eq!(a.set().report().alarms, [] as [String; 0]);
    a.seal();
    push(&a, &b).unwrap();
    assert_eq!(b.read("file"), "2");
}
