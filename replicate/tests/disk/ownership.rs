//! Whose tree is taken, and what becomes of the other one (DESIGN 5.13).

use crate::common::{Host, assert_same, epoch, push, rel, settle, sync};
use vipd_replicator::ports::{Behind, Position, Refusal};
use vipd_replicator::testing::Transfer;

fn contents(kept: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut contents: Vec<_> =
        kept.iter().map(|(_, c)| String::from_utf8_lossy(c).into_owned()).collect();
    contents.retain(|content| !content.starts_with('{'));
    contents.sort();
    contents
}

/// A owns under 5 and B has its tree; then both write without hearing each other, B under 6.
fn parted() -> (Host, Host) {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for name in ["both", "by-a", "by-b", "untouched", "gone-a", "gone-b"] {
        a.write(name, format!("{name} 5.1"));
    }
    a.claim(5, 1);
    sync(&a, &b);
    settle();
    b.claim(6, 2);
    for (host, other) in [(&a, "a"), (&b, "b")] {
        host.write("both", format!("both changed by {other}"));
        host.write(&format!("by-{other}"), format!("changed by {other}"));
        host.write(&format!("new-{other}"), format!("new on {other}"));
        host.remove(&format!("gone-{other}"));
        host.seal();
        // And something that no scan saw.
        host.write("unseen/deep", format!("unseen on {other}"));
    }
    (a, b)
}

#[test]
fn the_winner_of_a_partition_is_everywhere_and_every_octet_of_the_loser_is_kept() {
    for winner_is_owner in [true, false] {
        let (a, b) = parted();
        let (winner, loser, letter) = if winner_is_owner { (&a, &b, "b") } else { (&b, &a, "a") };
        // The winner hears of the other and raises its ownership above both; the loser learns that.
        winner.claim(7, if winner_is_owner { 1 } else { 2 });
        loser.set().follow(epoch(7, if winner_is_owner { 1 } else { 2 })).unwrap();
        assert!(matches!(push(winner, loser).unwrap(), Transfer::Done));
        assert_same(winner, loser);
        let rescued = contents(&loser.kept("rescue"));
        let expected = [
            format!("both changed by {letter}"),
            format!("changed by {letter}"),
            format!("new on {letter}"),
            format!("unseen on {letter}"),
        ];
        assert_eq!(rescued, expected);
        // Each is listed, with size, hash and reason.
        let folder = std::fs::read_dir(loser.own("rescue")).unwrap().next().unwrap().unwrap();
        let list = std::fs::read_to_string(folder.path().join("manifest.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), expected.len());
        for line in &lines {
            let kept = folder.path().join("files").join(line["path"].as_str().unwrap());
            let content = std::fs::read(kept).unwrap();
            assert_eq!(line["size"].as_u64().unwrap(), content.len() as u64);
            assert_eq!(line["hash"].as_str().unwrap(), blake3::hash(&content).to_string());
            assert!(!line["why"].as_str().unwrap().is_empty());
        }
        // Told as a divergence, and as long as it is there.
        let bytes: usize = expected.iter().map(String::len).sum();
        let divergence = format!("divergence: files=4 bytes={bytes}");
        assert!(loser.set().notices().iter().any(|n| n.alarm && n.text.contains(&divergence)));
        assert_eq!(loser.set().report().rescued_files, 4);
        assert!(loser.set().report().alarms.iter().any(|a| a.contains("rescue folder")));
        // What both had before went the ordinary way.
        let trash = contents(&loser.kept("trash"));
        assert!(!trash.iter().any(|content| content.contains("changed by")));
        // No loop: the pair goes on, in either direction.
        winner.write("later", "1");
        sync(winner, loser);
        loser.claim(8, if winner_is_owner { 2 } else { 1 });
        loser.write("later", "2");
        winner.set().follow(epoch(8, if winner_is_owner { 2 } else { 1 })).unwrap();
        sync(loser, winner);
        assert_eq!(winner.kept("rescue"), []);
        loser.assert_clean();
    }
}

#[test]
fn a_late_refusal_of_an_earlier_ownership_stops_nothing() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "5");
    a.claim(5, 1);
    sync(&a, &b);
    // Its next ownership was heard of there first, and is taken up here before the answer comes.
    a.claim(6, 1);
    a.set().source().refused("b", &Refusal::StaleEpoch(epoch(6, 1)));
    assert!(a.set().source().offer().is_some(), "the newest ownership is its own");
    sync(&a, &b);
    a.set().source().refused("b", &Refusal::StaleEpoch(epoch(7, 2)));
    assert!(a.set().source().offer().is_none());
}

#[test]
fn an_older_ownership_is_refused_and_its_owner_stops() {
    let (a, b, c) = (Host::new("a"), Host::new("b"), Host::new("c"));
    a.write("file", "5");
    a.claim(5, 1);
    sync(&a, &b);
    sync(&a, &c);
    b.claim(6, 2);
    sync(&b, &c);
    a.write("file", "5, later");
    a.seal();
    assert_eq!(push(&a, &c).unwrap_err(), Refusal::StaleEpoch(epoch(6, 2)));
    assert_eq!(c.read("file"), "5");
    assert!(a.set().source().offer().is_none(), "the refused owner offers nothing any more");
    assert!(a.set().report().alarms.iter().any(|alarm| alarm.contains("6.2")));
    // An ownership that is only heard of fences as well, over a restart too.
    let mut c = c;
    c.set().follow(epoch(9, 1)).unwrap();
    c.reopen();
    b.write("file", "6");
    b.seal();
    assert_eq!(push(&b, &c).unwrap_err(), Refusal::StaleEpoch(epoch(9, 1)));
    assert!(b.set().claim(epoch(4, 2)).is_err(), "nobody claims what is over");
    // So does an offer that was taken but never completed.
    let (d, e) = (Host::new("d"), Host::new("e"));
    d.write("file", "1");
    d.claim(3, 1);
    drop(e.set().target().take("d", &d.set().source().offer().unwrap()).unwrap());
    let f = Host::new("f");
    f.claim(2, 2);
    assert_eq!(push(&f, &e).unwrap_err(), Refusal::StaleEpoch(epoch(3, 1)));
}

#[test]
fn a_tree_of_another_descent_waits_for_the_operator_and_everything_here_is_rescued() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "of the pair");
    a.claim(5, 1);
    sync(&a, &b);
    // A loses its disk, comes back with nothing, and claims.
    let empty = Host::new("a");
    empty.write("file", "from an old backup");
    empty.claim(6, 1);
    let refusal = push(&empty, &b).unwrap_err();
    assert_eq!(refusal, Refusal::Diverged(Position { epoch: epoch(5, 1), generation: 1 }));
    assert_eq!(b.read("file"), "of the pair");
    let alarms = b.set().report().alarms;
    assert!(alarms.iter().any(|alarm| alarm.contains("vipd replica ack test")), "{alarms:?}");
    // It stays so, over a restart too.
    let mut b = b;
    b.reopen();
    assert!(push(&empty, &b).is_err());
    assert!(b.set().ack().unwrap().contains("does not descend"));
    empty.write("more", "x");
    sync(&empty, &b);
    assert_eq!(contents(&b.kept("rescue")), ["of the pair"]);
    assert!(b.set().ack().is_err(), "nothing waits any more");
    assert!(b.set().report().alarms.iter().all(|alarm| !alarm.contains("ack")));
}

#[test]
fn an_owner_that_restarts_goes_on_and_one_that_forgot_is_noticed() {
    let (mut a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(5, 1);
    sync(&a, &b);
    a.write("file", "2");
    a.seal();
    a.reopen();
    assert!(a.set().source().offer().is_none(), "the agent has not said that it owns");
    a.set().claim(epoch(5, 1)).unwrap();
    assert_eq!(a.set().position().generation, 2);
    assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
    a.write("file", "3");
    sync(&a, &b);
    // Its state folder is lost: what it makes now under the same ownership is not what B has.
    std::fs::remove_dir_all(a.base.join("state")).unwrap();
    a.reopen();
    a.write("file", "4");
    a.claim(5, 1);
    for content in ["5", "6", "7"] {
        a.write("file", content);
        a.seal();
    }
    assert_eq!(a.set().position().generation, 4, "further than B, with another history");
    assert!(matches!(push(&a, &b), Ok(Transfer::Nothing)));
    assert!(a.set().report().alarms.iter().any(|alarm| alarm.contains("lost or put back")));
    a.claim(6, 1);
    assert!(matches!(push(&a, &b), Err(Refusal::Diverged(_))));
    assert_eq!(b.read("file"), "3");
}

#[test]
fn a_third_host_keeps_what_only_it_had_acknowledged() {
    let (a, b, c) = (Host::new("a"), Host::new("b"), Host::new("c"));
    a.write("file", "1");
    a.claim(5, 1);
    sync(&a, &b);
    sync(&a, &c);
    settle();
    a.write("file", "2");
    sync(&a, &c);
    // B never got it, and wins.
    b.claim(6, 2);
    b.write("file", "3");
    sync(&b, &c);
    assert_eq!(contents(&c.kept("rescue")), ["2"]);
    a.set().follow(epoch(6, 2)).unwrap();
    sync(&b, &a);
    assert_eq!(contents(&a.kept("rescue")), ["2"]);
}

#[test]
fn a_host_that_never_had_the_set_keeps_its_files_aside_but_not_those_that_fit() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("same", "same");
    a.write("other", "of a");
    b.write("same", "same");
    b.write("other", "of b");
    b.write("only/b", "only b");
    a.claim(1, 1);
    let offer = a.set().source().offer().unwrap();
    assert_eq!(b.set().target().take("a", &offer).unwrap().needs().len(), 1);
    sync(&a, &b);
    assert_eq!(contents(&b.kept("rescue")), ["of b", "only b"]);
}

#[test]
fn what_was_changed_on_a_standby_is_rescued_before_it_is_replaced() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for name in ["1", "2", "3", "4"] {
        a.write(name, name);
    }
    a.claim(1, 1);
    sync(&a, &b);
    settle();
    b.write("1", "by hand 1");
    b.write("2", "by hand 2");
    b.write("extra", "by hand 3");
    b.remove("3");
    a.write("1", "new");
    a.write("4", "new");
    a.seal();
    push(&a, &b).unwrap();
    assert_eq!(contents(&b.kept("rescue")), ["by hand 1"]);
    assert_eq!((b.read("1"), b.read("2")), ("new".into(), "by hand 2".into()));
    // What the owner does not touch is found by a look at everything, and goes with the next tree.
    let mut drifted = b.set().drift().unwrap();
    drifted.sort();
    assert_eq!(drifted, [rel("2"), rel("3"), rel("extra")]);
    assert_eq!(b.set().report().alarms.len(), 2, "drift and rescue");
    a.write("5", "5");
    sync(&a, &b);
    assert_eq!(contents(&b.kept("rescue")), ["by hand 1", "by hand 2", "by hand 3"]);
    assert_eq!(b.set().drift().unwrap(), []);
}

#[test]
fn what_somebody_puts_into_an_empty_replica_is_found_as_well() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    b.write("before", "it never had a tree");
    assert_eq!(b.set().drift().unwrap(), []);
    b.remove("before");
    a.claim(1, 1);
    sync(&a, &b);
    b.write("extra", "by hand");
    assert_eq!(b.set().drift().unwrap(), [rel("extra")]);
    a.write("file", "1");
    sync(&a, &b);
    assert_eq!(contents(&b.kept("rescue")), ["by hand"]);
}

#[test]
fn deletions_beyond_the_guard_wait_for_the_operator_on_either_side() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for number in 0..100 {
        a.write(&format!("{number:02}"), "x");
    }
    a.claim(1, 1);
    sync(&a, &b);
    for number in 0..30 {
        a.remove(&format!("{number:02}"));
    }
    // The source holds it back itself.
    let held = a.set().seal(&vipd_replicator::set::Scope::Everything).unwrap_err();
    assert!(held.to_string().contains("30 of 100 files are gone"), "{held}");
    assert_eq!(a.set().source().offer().unwrap().position.generation, 1);
    assert!(a.set().ack().unwrap().contains("30 of 100"));
    assert!(a.seal().new);
    // And so does the receiver.
    assert!(matches!(push(&a, &b), Err(Refusal::Guard(_))));
    assert_eq!(b.tree().len(), 100);
    assert!(matches!(push(&a, &b), Err(Refusal::Guard(_))));
    b.set().ack().unwrap();
    sync(&a, &b);
    assert_eq!(b.kept("trash").len(), 30);
    // Few are few, whatever share they are; everything is everything.
    let (a, b) = (Host::new("a"), Host::new("b"));
    for number in 0..4 {
        a.write(&number.to_string(), "x");
    }
    a.claim(1, 1);
    sync(&a, &b);
    a.remove("0");
    a.remove("1");
    sync(&a, &b);
    a.remove("2");
    a.remove("3");
    assert!(a.set().seal(&vipd_replicator::set::Scope::Everything).is_err());
    assert_eq!(b.tree().len(), 2);
}

#[test]
fn the_rescue_folder_has_a_quota_and_nothing_is_lost_when_it_is_full() {
    let (a, b) = (Host::new("a"), Host::with("b", |c| c.rescue_quota = 10));
    a.write("file", "of a");
    b.write("file", "eleven octe");
    a.claim(1, 1);
    let refusal = push(&a, &b).unwrap_err();
    assert!(refusal.to_string().contains("rescue-quota"), "{refusal}");
    assert_eq!(b.read("file"), "eleven octe");
    let mut b = b;
    b.reconfigure(|c| c.rescue_quota = 11);
    sync(&a, &b);
}

#[test]
fn the_gauge_counts_from_the_oldest_change_that_no_standby_has() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    let rpo = |host: &Host| host.set().report().rpo_ms;
    a.write("file", "1");
    a.claim(1, 1);
    assert_eq!(rpo(&a), None, "nobody has anything");
    sync(&a, &b);
    assert_eq!((rpo(&a), rpo(&b)), (Some(0), Some(0)));
    let has = a.set().position();
    let behind = || a.set().source().behind(has);
    assert_eq!(behind(), Behind::default());
    a.set().dirty(a.hands.now_ms());
    assert_eq!(behind(), Behind { files: 1, ms: 1 }, "nobody is told that he has everything");
    a.hands.pass(300);
    assert_eq!(rpo(&a), Some(300), "before the scan");
    assert_eq!(behind(), Behind { files: 1, ms: 300 });
    a.write("file", "22");
    a.seal();
    a.hands.pass(200);
    assert_eq!(rpo(&a), Some(500), "sealed, but not sent");
    assert_eq!(behind(), Behind { files: 1, ms: 500 });
    assert_eq!((a.set().report().pending_files, a.set().report().pending_bytes), (1, 2));
    push(&a, &b).unwrap();
    assert_eq!(rpo(&a), Some(0));
    assert_eq!(a.set().report().pending_files, 0);
    assert!(a.set().report().peers[0].in_sync);
    b.set().target().pending("a", 3, 300);
    assert_eq!((b.set().report().pending_files, b.set().report().pending_bytes), (3, 300));
    b.hands.pass(5000);
    assert_eq!(b.set().report().age_ms, Some(5000));
    // Of an owner whose files change all the time: all but the newest is here.
    let current =
        |files, ms| b.set().target().current("a", a.set().position(), Behind { files, ms });
    current(2, 40);
    assert_eq!((b.set().report().age_ms, b.set().report().pending_files), (Some(40), 2));
    b.hands.pass(10);
    current(1, 0);
    assert_eq!(
        b.set().report().age_ms,
        Some(50),
        "an older release says that something is to come"
    );
    current(1, 900);
    assert_eq!(b.set().report().age_ms, Some(50), "what was complete stays it");
    current(0, 0);
    assert_eq!((b.set().report().age_ms, b.set().report().pending_files), (Some(0), 0));
}

#[test]
fn the_gauge_is_that_of_the_standby_that_lacks_most_also_while_it_is_away() {
    let hosts = ["a", "b", "c", "d"].map(Host::new);
    let [a, b, c, d] = &hosts;
    let report = |host: &Host| host.set().report();
    let of = |name: &str| report(a).peers.into_iter().find(|peer| peer.host == name).unwrap();
    a.set().standbys(["b", "c"].map(str::to_owned));
    a.write("file", "1");
    a.claim(1, 1);
    push(a, b).unwrap();
    // c could take over, and would have nothing.
    assert_eq!((report(a).rpo_ms, of("b").rpo_ms, of("c").rpo_ms), (None, Some(0), None));
    assert_eq!((of("c").pending_files, of("c").pending_bytes), (1, 1));
    assert!(of("b").in_sync && !of("c").in_sync);
    push(a, c).unwrap();
    assert_eq!(report(a).rpo_ms, Some(0));
    // c is away from here on.
    for (content, ms) in [("22", 300), ("333", 700)] {
        a.set().dirty(a.hands.now_ms());
        a.write("file", content);
        a.seal();
        push(a, b).unwrap();
        a.hands.pass(ms);
    }
    assert_eq!(
        (report(a).rpo_ms, of("b").rpo_ms, of("c").rpo_ms),
        (Some(1000), Some(0), Some(1000))
    );
    assert_eq!((report(a).pending_bytes, of("b").pending_bytes, of("c").pending_bytes), (3, 0, 3));
    a.hands.pass(60_000);
    assert_eq!(report(a).rpo_ms, Some(61_000), "it grows");
    // A standby judges itself by what the owner said to it, not by what another one lacks.
    assert_eq!((report(b).age_ms, report(b).pending_bytes), (Some(0), 0));
    push(a, c).unwrap();
    assert_eq!((report(a).rpo_ms, report(a).pending_files), (Some(0), 0));
    // Whoever speaks counts, too; and a disk that was put back is as good as none.
    push(a, d).unwrap();
    a.set().source().peer_stands("d", Default::default(), [0; 32]);
    assert_eq!((report(a).rpo_ms, of("d").rpo_ms), (None, None));
}
