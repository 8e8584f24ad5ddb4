//! What comes while the replicator is at something: a claim in the middle of a tree that is being put in place, a reload
//! with a file that is wrong.

use super::{QUICK, SOON, plan};
use crate::arena::{Arena, FIRST, SECOND, wait};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::replicator::ROOT;

/// Files of a tree that takes longer to be put in place than a claim takes at 10 ms.
const MANY: usize = 3000;

pub(super) fn a_claim_while_a_tree_is_put_in_place() {
    for atomic in [false, true] {
        claim_in_the_middle(atomic);
    }
}

fn name(number: usize) -> String {
    format!("many/{number:04}")
}

fn claim_in_the_middle(atomic: bool) {
    let plan = Plan { interval: Duration::from_millis(10), ..plan("") };
    super::without_files(&plan);
    let mut arena = Arena::open(plan);
    // A folder of its own: one that is a mount point cannot be exchanged.
    let app = |arena: &Arena, ix| arena.files(ix).join("app");
    let more = if atomic { "\natomic-set = true" } else { "" };
    for ix in [FIRST, SECOND] {
        fs::create_dir_all(app(&arena, ix)).unwrap();
        let (old, new) =
            (format!("paths = [\"{ROOT}\"]"), format!("paths = [\"{ROOT}/app\"]{more}"));
        arena.edit_config(ix, |text| {
            assert!(text.contains(&old), "{text}");
            text.replace(&old, &new)
        });
    }
    arena.elect();
    let [first, second]: [PathBuf; 2] = [FIRST, SECOND].map(|ix| app(&arena, ix));
    let write = |word: &str| {
        fs::create_dir_all(first.join("many")).unwrap();
        for number in 0..MANY {
            fs::write(first.join(name(number)), format!("{word} {number}")).unwrap();
        }
    };
    write("old");
    fs::write(first.join("acknowledged"), "by h2").unwrap();
    arena.wait_sync(FIRST);
    // One tree of all changes: the replicator sees them when all are made.
    let replicator = |arena: &Arena, signal| arena.stage.replicator(FIRST).signal(signal).unwrap();
    replicator(&arena, Signal::SIGSTOP);
    write("new");
    replicator(&arena, Signal::SIGCONT);
    let next = arena.files(SECOND).join(".vipd-app/next");
    let begun = || match atomic {
        true => next.exists(),
        false => fs::read_to_string(second.join(name(0))).is_ok_and(|text| text == "new 0"),
    };
    let limit = now() + SOON;
    while !begun() {
        assert!(now() < limit, "the tree does not come\n{}", arena.stage.logs(30));
        wait(Duration::from_millis(1));
    }
    let died = arena.stage.power_off(FIRST).unwrap();
    let took = arena.wait_owner(SECOND).since(died);
    let set = arena.wait_set(SECOND, "pushes", |set| set["owns"] == true);
    let promised = arena.stage.plan().detection() * 10;
    assert!(took < promised, "claimed after {took:?}, ten times {promised:?} is the limit");
    assert_eq!(fs::read_to_string(second.join("acknowledged")).unwrap(), "by h2");
    let (mut old, mut new) = (0, 0);
    for number in 0..MANY {
        let text = fs::read_to_string(second.join(name(number))).unwrap();
        let is = |word: &str| text == format!("{word} {number}");
        assert!(is("old") || is("new"), "{}: {text:?}", name(number));
        (old, new) = (old + usize::from(is("old")), new + usize::from(is("new")));
    }
    let torn = set["alarms"].to_string().contains("became the owner while tree");
    println!(
        "\n  atomic-set {atomic}: claimed after {:.0} ms; {new} files new, {old} old; said: {torn}",
        millis(took)
    );
    if atomic {
        assert!(old == 0 || new == 0, "one tree or the other: {old} old, {new} new");
    } else {
        assert_eq!(torn, old > 0, "{set:#}");
    }
    arena.stage.power_on(FIRST).unwrap();
    arena.close();
}

pub(super) fn a_bad_set_changes_nothing() {
    let arena = super::elected(plan(""));
    let since = now();
    let alike = |name: &str| {
        fs::write(arena.files(FIRST).join(name), name).unwrap();
        arena.wait_content(SECOND, name, name);
    };
    let right = fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    let with = |paths: &str| {
        format!("{right}\n[replicate.tail]\ninstance = \"web\"\npaths = [\"{paths}\"]\n{QUICK}")
    };
    // One inside of the other, and no absolute path: nothing changes, and the line is named, with what to do.
    let line = right.lines().count() + 4;
    for (paths, fix) in
        [(&*format!("{ROOT}/below"), "a folder is in one set"), ("relative", "absolute")]
    {
        arena.edit_config(FIRST, |_| with(paths));
        let told = arena.order(FIRST, &["reload", "--wait=20s"]);
        assert_eq!(told.code, 3, "{}", told.text);
        assert!(told.text.contains(&format!("vipd.toml:{line}:")), "line {line}: {}", told.text);
        assert!(told.text.contains(paths) && told.text.contains(fix), "{}", told.text);
        // The replicator reads the same file, should somebody tell it to.
        arena.stage.replicator(FIRST).signal(Signal::SIGHUP).unwrap();
        wait(Duration::from_millis(300));
        let said = arena.stage.replicator(FIRST).log_tail(20);
        assert!(said.contains("the old configuration stays in use"), "{said}");
        alike(&format!("after-{}", paths.rsplit('/').next().unwrap()));
        let sets = arena.status(FIRST)["instances"][0]["replicas"].clone();
        assert_eq!(sets.as_array().map(Vec::len), Some(1), "{sets:#}");
        assert_eq!(sets[0]["alarms"], serde_json::Value::Null, "{sets:#}");
    }
    // Whether a folder is there is not in the file: that set waits, with an alarm that says what to do, and the other goes on.
    arena.edit_config(FIRST, |_| with("/run/vipd-nowhere"));
    arena.done(FIRST, &["reload", "--wait=20s"]);
    let limit = now() + SOON;
    loop {
        let sets = arena.status(FIRST)["instances"][0]["replicas"].clone();
        let tail = sets.as_array().unwrap().iter().find(|set| set["set"] == "tail");
        let alarms = tail.map(|tail| tail["alarms"].to_string()).unwrap_or_default();
        if alarms.contains("/run/vipd-nowhere is missing: mount it, or create it") {
            break;
        }
        assert!(now() < limit, "{sets:#}");
        wait(Duration::from_millis(50));
    }
    alike("beside");
    arena.edit_config(FIRST, |_| right.clone());
    arena.done(FIRST, &["reload", "--wait=20s"]);
    alike("again");
    assert_eq!(arena.moves(since), 0, "the address stays where it is");
    arena.close();
}
