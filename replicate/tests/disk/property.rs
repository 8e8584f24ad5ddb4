//! Any sequence of edits, seals, transfers that are cut, failing disks, restarts and changes of ownership: after a quiet
//! moment the replica equals the source, and no transfer, finished or not, ever took a content from a standby that is not
//! in its tree, trash or rescue folder after it.

use crate::common::{Host, assert_same, epoch, push};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use vipd_replicator::fail::{self, Action};
use vipd_replicator::set::Scope;

#[derive(Clone, Debug)]
enum Op {
    /// On the owner, or by mistake on the standby.
    Write {
        owner: bool,
        name: usize,
        same_size: bool,
    },
    Remove {
        owner: bool,
        name: usize,
    },
    Folder {
        owner: bool,
        name: usize,
    },
    Link {
        owner: bool,
        name: usize,
    },
    Rename {
        owner: bool,
        from: usize,
        to: usize,
    },
    Seal,
    Push,
    /// The disk of the standby fails at this step of a transfer.
    Broken(u64),
    Drift,
    Restart {
        owner: bool,
    },
    /// The other host claims, and may have heard of nothing that was not pushed; its replicator may have to start first.
    Claim {
        restart: bool,
    },
}

const NAMES: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x/deep", "c", "c/x", "d"];

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    prop_oneof![
        8 => (prop::bool::weighted(0.85), name.clone(), any::<bool>())
            .prop_map(|(owner, name, same_size)| Op::Write { owner, name, same_size }),
        3 => (prop::bool::weighted(0.85), name.clone())
            .prop_map(|(owner, name)| Op::Remove { owner, name }),
        2 => (prop::bool::weighted(0.9), name.clone())
            .prop_map(|(owner, name)| Op::Folder { owner, name }),
        1 => (prop::bool::weighted(0.9), name.clone())
            .prop_map(|(owner, name)| Op::Link { owner, name }),
        2 => (prop::bool::weighted(0.9), name.clone(), name)
            .prop_map(|(owner, from, to)| Op::Rename { owner, from, to }),
        5 => Just(Op::Seal),
        6 => Just(Op::Push),
        3 => (1_u64..150).prop_map(Op::Broken),
        1 => Just(Op::Drift),
        1 => any::<bool>().prop_map(|owner| Op::Restart { owner }),
        1 => any::<bool>().prop_map(|restart| Op::Claim { restart }),
    ]
}

/// Two hosts, the owner first.
struct World {
    hosts: [Host; 2],
    number: u64,
    contents: u64,
}

fn files(host: &Host) -> BTreeSet<Vec<u8>> {
    let files = host.tree().into_iter().filter(|(_, what)| what.starts_with("file"));
    files.map(|(path, _)| std::fs::read(host.path(&path)).unwrap()).collect()
}

/// All contents on a host, wherever they are; `next` is a tree that was swapped out and is still to be cleared.
fn everything(host: &Host) -> BTreeSet<Vec<u8>> {
    let kept = ["trash", "rescue", "next"].into_iter().flat_map(|kind| host.kept(kind));
    // Lists of what was rescued are written anew.
    let kept = kept.filter(|(path, _)| !path.contains("/manifest."));
    files(host).into_iter().chain(kept.map(|(_, content)| content)).collect()
}

impl World {
    fn new(atomic: bool) -> Self {
        let configure = |c: &mut vipd_core::config::model::Replicate| {
            // The bounds are not what is tried here.
            (c.trash_versions, c.atomic) = (1000, atomic);
        };
        let hosts = [Host::with("a", configure), Host::with("b", configure)];
        let world = Self { hosts, number: 1, contents: 0 };
        world.hosts[0].set().claim(epoch(1, 1)).unwrap();
        world
    }

    fn host(&self, owner: bool) -> &Host {
        &self.hosts[usize::from(!owner)]
    }

    /// The service on a host does what it likes with its files; what cannot be done is not.
    fn edit(&mut self, op: &Op) {
        self.contents += 1;
        let content = format!("{:06}", self.contents);
        let at = |owner: bool, name: usize| self.host(owner).path(NAMES[name]);
        let done = match *op {
            Op::Write { owner, name, same_size } => {
                let path = at(owner, name);
                let content = if same_size { content } else { content.repeat(3) };
                std::fs::create_dir_all(path.parent().unwrap())
                    .and_then(|()| std::fs::write(path, content))
            }
            Op::Remove { owner, name } => {
                let path = at(owner, name);
                if path.is_dir() && !path.is_symlink() {
                    std::fs::remove_dir_all(path)
                } else {
                    std::fs::remove_file(path)
                }
            }
            Op::Folder { owner, name } => std::fs::create_dir_all(at(owner, name)),
            Op::Link { owner, name } => symlink("c", at(owner, name)),
            Op::Rename { owner, from, to } => std::fs::rename(at(owner, from), at(owner, to)),
            _ => Ok(()),
        };
        drop(done);
    }

    /// Does something to a host that must lose nothing there.
    fn losing_nothing(&mut self, owner: bool, body: impl FnOnce(&mut Self)) {
        let before = everything(self.host(owner));
        body(self);
        let after = everything(self.host(owner));
        let lost: Vec<_> = before.difference(&after).map(|c| String::from_utf8_lossy(c)).collect();
        assert!(lost.is_empty(), "{lost:?} is lost");
    }

    fn seal(&self) {
        match self.hosts[0].set().seal(&Scope::Everything) {
            Ok(_) => {}
            Err(vipd_replicator::error::Error::Guard(_)) => {
                self.hosts[0].set().ack().unwrap();
                self.hosts[0].seal();
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A transfer; where the operator is asked, he agrees.
    fn push(&mut self) {
        self.losing_nothing(false, |world| world.push_unwatched());
    }

    fn push_unwatched(&self) {
        let [owner, standby] = &self.hosts;
        if let Err(refusal) = push(owner, standby) {
            let asked = matches!(
                refusal,
                vipd_replicator::ports::Refusal::Guard(_)
                    | vipd_replicator::ports::Refusal::Diverged(_)
            );
            assert!(asked, "{refusal}");
            standby.set().ack().unwrap();
            push(owner, standby).unwrap();
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Seal => self.seal(),
            Op::Push => self.push(),
            Op::Broken(at) => {
                self.losing_nothing(false, |world| {
                    fail::arm(*at, Action::Error);
                    let _ = push(&world.hosts[0], &world.hosts[1]);
                    fail::disarm();
                });
            }
            Op::Drift => drop(self.hosts[1].set().drift().unwrap()),
            Op::Restart { owner } => {
                let epoch = epoch(self.number, 1);
                self.losing_nothing(*owner, |world| {
                    world.hosts[usize::from(!owner)].reopen();
                    if *owner {
                        world.hosts[0].set().claim(epoch).unwrap();
                    } else {
                        world.hosts[1].set().follow(epoch).unwrap();
                    }
                });
            }
            Op::Claim { restart } => {
                // The owner falls silent with what it has, sealed or not.
                self.number += 1;
                self.hosts.swap(0, 1);
                let epoch = epoch(self.number, 1);
                if *restart {
                    self.hosts[0].reopen();
                }
                // A tree that is half in place there stays so, and what came of it is kept.
                let before = self.hosts[0].tree();
                self.losing_nothing(true, |world| world.hosts[0].set().claim(epoch).unwrap());
                assert_eq!(self.hosts[0].tree(), before, "a claim changed the files");
                self.hosts[1].set().follow(epoch).unwrap();
            }
            edit => self.edit(edit),
        }
    }

    fn check(&mut self) {
        // Quiet: what was changed on the standby behind its back goes too.
        self.seal();
        self.push();
        self.hosts[1].set().drift().unwrap();
        std::fs::write(self.hosts[0].path("quiet"), "quiet").unwrap();
        self.seal();
        self.push();
        assert_same(&self.hosts[0], &self.hosts[1]);
        self.hosts[1].assert_clean();
        assert!(self.hosts[1].set().drift().unwrap().is_empty());
    }
}

fn run(atomic: bool, ops: &[Op]) {
    let mut world = World::new(atomic);
    for op in ops {
        world.apply(op);
    }
    world.check();
}

/// Seeds of the regular run, which is the same each time; a run with `VIPD_LONG=1` draws anew.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
/// Sequences for each of them.
const CASES: u32 = 40;
/// Sequences of the long run.
const LONG_CASES: u32 = 2000;

/// Plays sequences of up to `longest` steps.
fn play(atomic: bool, longest: usize) {
    let long = std::env::var_os("VIPD_LONG").is_some_and(|long| long == "1");
    let runs = if long {
        vec![(RngSeed::Random, LONG_CASES)]
    } else {
        SEEDS.map(|seed| (RngSeed::Fixed(seed), CASES)).to_vec()
    };
    for (rng_seed, cases) in runs {
        let mut config = ProptestConfig::with_cases(cases);
        (config.rng_seed, config.failure_persistence, config.max_shrink_iters) =
            (rng_seed, None, 300);
        let mut runner = TestRunner::new(config);
        let played = runner.run(&prop::collection::vec(op(), 1..longest), |ops| {
            run(atomic, &ops);
            Ok(())
        });
        if let Err(error) = played {
            panic!("{rng_seed:?}: {error}");
        }
    }
}

#[test]
fn the_replica_equals_the_source_after_a_quiet_moment_and_nothing_is_lost() {
    play(false, 40);
}

#[test]
fn so_it_does_where_trees_are_swapped() {
    play(true, 30);
}
