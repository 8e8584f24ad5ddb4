//! What has come of a tree before it is put in place: nothing that is complete is asked for again, nothing that is not counts.

use crate::common::{Host, assert_same, epoch, push, rel, settle};
use std::fs;
use vipd_replicator::fail::{self, Action};
use vipd_replicator::manifest::Kind;
use vipd_replicator::ports::{Offer, Refusal, Stage};

/// A small file, a large one, and two with one content.
fn files(a: &Host) {
    a.write("small", "small");
    a.write("large", vec![7; 3 << 20]);
    a.write("twin-1", "twin");
    a.write("twin-2", "twin");
}

fn hosts() -> (Host, Host, Offer) {
    let (a, b) = (Host::new("a"), Host::new("b"));
    files(&a);
    a.claim(1, 1);
    b.set().follow(epoch(1, 1)).unwrap();
    let offer = a.set().source().offer().unwrap();
    (a, b, offer)
}

fn take(b: &Host, offer: &Offer) -> Box<dyn Stage> {
    b.set().target().take("a", offer).unwrap()
}

/// Brings the first `octets` of each content that is lacking.
fn fill(a: &Host, stage: &mut dyn Stage, offer: &Offer, octets: usize) {
    for need in stage.needs() {
        let entry = &offer.manifest.entries()[need.entry as usize];
        let content = fs::read(a.path(&entry.path.to_string())).unwrap();
        let mut file = stage.create(entry).unwrap();
        file.put(0, &content[..content.len().min(octets)]).unwrap();
        if octets >= content.len() {
            file.finish().unwrap();
        }
    }
}

#[test]
fn what_was_complete_when_a_session_ended_is_not_asked_for_again() {
    let (a, b, offer) = hosts();
    let mut stage = take(&b, &offer);
    assert_eq!(stage.needs().len(), 3);
    fill(&a, &mut *stage, &offer, usize::MAX);
    drop(stage);
    let stage = take(&b, &offer);
    assert_eq!(stage.needs(), []);
    stage.commit().unwrap();
    assert_same(&a, &b);
    b.assert_clean();
    assert!(b.set().report().errors.is_empty(), "nothing of it was taken for corrupt");
}

#[test]
fn what_was_not_complete_is_asked_for_again_and_is_no_fault_of_the_disk() {
    let (a, b, offer) = hosts();
    let mut stage = take(&b, &offer);
    fill(&a, &mut *stage, &offer, 3);
    drop(stage);
    let mut stage = take(&b, &offer);
    assert_eq!(stage.needs().len(), 3);
    assert!(b.set().report().errors.is_empty());
    fill(&a, &mut *stage, &offer, usize::MAX);
    stage.commit().unwrap();
    assert_same(&a, &b);
    b.assert_clean();
}

#[test]
fn a_tree_with_a_file_that_is_not_complete_is_not_put_in_place() {
    for name in ["small", "large", "twin-1"] {
        let (a, b, offer) = hosts();
        let mut stage = take(&b, &offer);
        let entry = offer.manifest.get(&rel(name)).unwrap();
        let Kind::File { size, .. } = entry.kind else { panic!("{name}") };
        for need in stage.needs() {
            let other = &offer.manifest.entries()[need.entry as usize];
            let content = fs::read(a.path(&other.path.to_string())).unwrap();
            let mut file = stage.create(other).unwrap();
            let part = if other == entry { size as usize - 1 } else { content.len() };
            file.put(0, &content[..part]).unwrap();
            if other != entry {
                file.finish().unwrap();
            }
        }
        assert!(matches!(stage.commit(), Err(Refusal::Disk(_))), "{name}");
        assert!(!b.path(name).exists(), "{name}");
        push(&a, &b).unwrap();
        assert_same(&a, &b);
        b.assert_clean();
    }
}

#[test]
fn what_was_made_ready_for_a_tree_that_could_not_be_put_in_place_is_not_asked_for_again() {
    let mut late = 0;
    for at in 1.. {
        let (a, b, offer) = hosts();
        fail::arm(at, Action::Error);
        let failed = push(&a, &b).is_err();
        let names = fail::disarm();
        if (names.len() as u64) < at {
            break;
        }
        // Behind the last content and the two steps in which it gets its name.
        let staged = names.iter().enumerate().filter(|(_, name)| **name == "staged");
        let last = staged.map(|(at, _)| at as u64).nth(2);
        if failed && last.is_some_and(|last| at > last + 3) && b.set().position().generation == 0 {
            late += 1;
            let (lacking, step) = (take(&b, &offer).needs().len(), names[at as usize - 1]);
            // What may not have reached the disk is not believed: the files, and the folder in which they are ready.
            let folder = names.iter().position(|name| *name == "fsync folder done");
            let lost = step.starts_with("fsync") && folder.is_none_or(|of| at as usize <= of + 1);
            assert_eq!(lacking > 0, lost, "step {at} ({step}): {lacking}");
        }
        // What a cleaning leaves goes with the next tree.
        a.write("later", "x");
        a.seal();
        push(&a, &b).unwrap();
        assert_same(&a, &b);
        b.assert_clean();
    }
    assert!(late > 10, "{late} steps of the commit");
}

#[test]
fn what_somebody_writes_right_after_a_file_was_put_in_place_is_found() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for n in 0..20 {
        a.write(&format!("{n}"), format!("of a {n:05}"));
    }
    settle();
    a.claim(1, 1);
    push(&a, &b).unwrap();
    for n in 0..20 {
        b.write(&format!("{n}"), format!("of b {n:05}"));
    }
    assert_eq!(b.set().drift().unwrap().len(), 20);
    // Also in the same moment as the owner.
    a.write("late", "of a");
    a.seal();
    push(&a, &b).unwrap();
    b.write("late", "of b");
    assert_eq!(b.set().drift().unwrap(), [rel("late")]);
}

/// Only the time of a file is other than the owner's. To set it would hide that somebody has written to the file since it was
/// looked at.
#[test]
fn a_write_on_a_standby_after_the_offer_is_found_though_its_time_is_set() {
    let (a, b, _) = hosts();
    push(&a, &b).unwrap();
    settle();
    let file = fs::File::options().write(true).open(a.path("small")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.set_modified(time - std::time::Duration::from_secs(3)).unwrap();
    settle();
    a.seal();
    let offer = a.set().source().offer().unwrap();
    let stage = take(&b, &offer);
    assert_eq!(stage.needs(), []);
    fs::write(b.path("small"), "sMall").unwrap();
    stage.commit().unwrap();
    assert_eq!(b.set().drift().unwrap(), [rel("small")]);
    push(&a, &b).unwrap();
    assert_same(&a, &b);
    assert!(b.kept("rescue").iter().any(|(_, content)| content == b"sMall"));
}

/// What an attempt that is over left cannot be read: it is no reason to take no tree.
#[test]
fn litter_in_the_stage_that_cannot_be_read_is_removed() {
    let (a, b, offer) = hosts();
    let mut stage = take(&b, &offer);
    fill(&a, &mut *stage, &offer, usize::MAX);
    drop(stage);
    for folder in ["f", "c"] {
        let stage = b.own("stage").join(folder);
        assert!(stage.exists(), "{}", stage.display());
        for entry in fs::read_dir(&stage).unwrap() {
            let path = entry.unwrap().path();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
    push(&a, &b).unwrap();
    assert_same(&a, &b);
    b.assert_clean();
}
