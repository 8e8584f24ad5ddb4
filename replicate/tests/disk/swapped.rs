//! Whole trees that are swapped, a disk that fails at each step of it, and files of a standby that somebody changed: they are
//! nowhere else.

use crate::common::{Host, push, settle, sync};
use vipd_replicator::fail::{self, Action};

fn pair() -> (Host, Host) {
    let host = |name| Host::with(name, |c| c.atomic = true);
    let (a, b) = (host("a"), host("b"));
    for name in ["file", "gone", "stays"] {
        a.write(name, format!("{name} of a"));
    }
    a.claim(1, 1);
    sync(&a, &b);
    settle();
    (a, b)
}

fn has(b: &Host, content: &str) -> bool {
    let kept = ["trash", "rescue"].into_iter().flat_map(|kind| b.kept(kind));
    let kept = kept.map(|(_, content)| content).any(|kept| kept == content.as_bytes());
    kept || b
        .tree()
        .keys()
        .any(|path| std::fs::read(b.path(path)).is_ok_and(|c| c == content.as_bytes()))
}

/// Plays `scene` with a disk that fails at each step of a transfer; `then` is done before the standby goes on. `content` is there
/// in the end.
fn at_each_step(scene: impl Fn(&Host, &Host), then: impl Fn(&Host), content: &str) {
    for at in 1.. {
        let (a, mut b) = pair();
        scene(&a, &b);
        fail::arm(at, Action::Error);
        let pushed = push(&a, &b);
        let steps = fail::disarm().len() as u64;
        then(&b);
        b.reopen();
        b.set().follow(crate::common::epoch(1, 1)).unwrap();
        assert!(has(&b, content), "step {at}: {content:?} is lost");
        a.write("later", "x");
        sync(&a, &b);
        assert!(has(&b, content), "step {at}: {content:?} is lost with the next tree");
        b.assert_clean();
        if steps < at {
            pushed.unwrap();
            return;
        }
    }
}

#[test]
fn a_repair_that_is_interrupted_keeps_what_it_replaces() {
    let scene = |_: &Host, b: &Host| {
        b.write("file", "by hand");
        assert_eq!(b.set().drift().unwrap().len(), 1);
    };
    at_each_step(scene, |_| {}, "by hand");
}

#[test]
fn a_file_that_comes_back_while_its_deletion_is_interrupted_is_kept() {
    let scene = |a: &Host, b: &Host| {
        b.remove("gone");
        a.remove("gone");
        a.seal();
    };
    at_each_step(scene, |b| b.write("gone", "back again"), "back again");
}
