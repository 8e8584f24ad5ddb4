//! The sets of one configuration, at work: each by itself, so that one that cannot be opened stops no other.
//!
//! Opened at the start and at a reload by the main thread. A set that cannot be opened is an alarm that names the place and the
//! fix, lets no planned move pass, and is tried again by itself and at each reload.

use super::inbound::{Inbound, Open};
use super::pushing::Others;
use super::worker::Worker;
use super::{Options, ServiceError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use vipd_agent::runtime::keys;
use vipd_agent::sys::clock;
use vipd_core::config::model::{Model, Replicate};
use vipd_core::replica::{SetReport, Word};
use vipd_core::time::Instant;
use vipd_replicator::clock::Clock;
use vipd_replicator::error::Error;
use vipd_replicator::net::noise::LinkKey;
use vipd_replicator::net::{Me, SetId};
use vipd_replicator::set::Set;

/// Time for all sets together to end. The agent misses a replicator that says nothing for 5 s.
const STOP: Duration = Duration::from_secs(4);
/// Between two attempts to open what could not be opened.
const AGAIN: Duration = Duration::from_secs(5);

/// A configuration that can be worked with: everything that may be wrong for all sets was looked at.
pub(super) struct Ready {
    model: Arc<Model>,
    /// `None`: no sets.
    me: Option<Me>,
}

impl Ready {
    /// Reads the cluster key, where there are sets.
    ///
    /// # Errors
    /// It is missing or wrong.
    pub(super) fn new(model: Model) -> Result<Self, ServiceError> {
        let model = Arc::new(model);
        if model.replicates.is_empty() {
            return Ok(Self { model, me: None });
        }
        let key = keys::cluster(&model)?.ok_or(ServiceError::NoKey)?;
        let me = Me {
            cluster: Arc::clone(&model.cluster),
            host: Arc::clone(model.host_name(model.host)),
            key: LinkKey::derive(&key, &model.cluster),
        };
        Ok(Self { model, me: Some(me) })
    }
}

/// The sets of one configuration.
pub(super) struct Sets {
    ready: Ready,
    pub(super) workers: Vec<Arc<Worker>>,
    /// Sets that could not be opened.
    broken: Vec<Broken>,
    pub(super) inbound: Option<Arc<Inbound>>,
    try_at: Instant,
}

/// A set that could not be opened.
struct Broken {
    configured: Replicate,
    why: String,
}

impl Sets {
    /// Opens all sets that can be opened.
    pub(super) fn open(options: &Options, ready: Ready, words: &UnboundedSender<Word>) -> Self {
        let mut sets = Self {
            ready,
            workers: Vec::new(),
            broken: Vec::new(),
            inbound: None,
            try_at: clock::monotonic() + AGAIN,
        };
        let Some(me) = sets.ready.me.clone() else {
            tracing::info!("no [replicate.NAME] for this host: nothing to do");
            return sets;
        };
        let mut opened = Vec::new();
        for configured in sets.ready.model.replicates.clone() {
            match sets.open_one(options, &me, &configured, words) {
                Ok(open) => opened.push(open),
                Err(error) => {
                    let why = why(&configured, &error);
                    tell(words, &configured, why.clone(), true);
                    sets.broken.push(Broken { configured, why });
                }
            }
        }
        sets.workers = opened.iter().map(|(_, worker, _)| Arc::clone(worker)).collect();
        sets.inbound = Some(Arc::new(Inbound::start(&sets.ready.model, me, opened)));
        sets
    }

    fn open_one(
        &self,
        options: &Options,
        me: &Me,
        configured: &Replicate,
        words: &UnboundedSender<Word>,
    ) -> Result<Open, Error> {
        let config = Arc::new(configured.clone());
        let set = Set::open(config, &options.state_dir, Clock::system())?;
        let (model, id) = (&self.ready.model, identity(configured));
        set.standbys(hosts(model, configured).iter().map(ToString::to_string));
        let others = Others { me: me.clone(), id: id.clone(), hosts: others(model, configured) };
        let instance = Arc::clone(&model.instance(configured.instance).name);
        let worker = Worker::start(set, instance, others, words.clone())
            .map_err(|source| Error::Io { path: "thread".into(), source })?;
        Ok((id, Arc::new(worker), hosts(model, configured)))
    }

    /// What could not be opened is tried again at the next opportunity.
    pub(super) fn try_now(&mut self) {
        self.try_at = clock::monotonic();
    }

    /// Tries again what could not be opened, when it is time. Is there a set that is open now?
    pub(super) fn try_again(&mut self, options: &Options, words: &UnboundedSender<Word>) -> bool {
        let now = clock::monotonic();
        let (Some(me), Some(inbound)) = (self.ready.me.clone(), self.inbound.clone()) else {
            return false;
        };
        if self.broken.is_empty() || now < self.try_at {
            return false;
        }
        self.try_at = now + AGAIN;
        let before = self.workers.len();
        for mut broken in std::mem::take(&mut self.broken) {
            match self.open_one(options, &me, &broken.configured, words) {
                Ok(open) => {
                    tell(words, &broken.configured, format!("over: {}", broken.why), false);
                    self.workers.push(Arc::clone(&open.1));
                    inbound.add(open);
                }
                Err(error) => {
                    let why = why(&broken.configured, &error);
                    if why != broken.why {
                        tell(words, &broken.configured, why.clone(), true);
                        broken.why = why;
                    }
                    self.broken.push(broken);
                }
            }
        }
        self.workers.len() > before
    }

    /// Ends everything; blocks for some seconds at most. A set in which somebody still works then stays locked, and is opened
    /// again only when that has ended.
    pub(super) fn stop(&mut self) {
        let until = clock::monotonic() + STOP;
        let workers = std::mem::take(&mut self.workers);
        workers.iter().for_each(|worker| worker.stop());
        if let Some(inbound) = self.inbound.take() {
            inbound.stop(until);
        }
        for worker in workers {
            if !worker.ended(until) {
                tracing::warn!("set {}: what it was at has not ended yet", worker.shared.name);
            }
        }
    }

    /// Nothing that matters here differs in `model`.
    pub(super) fn means_the_same(&self, model: &Model) -> bool {
        let now = &self.ready.model;
        model.replicates == now.replicates
            && model.replicate_port == now.replicate_port
            && model.hosts == now.hosts
            && model.heartbeat == now.heartbeat
            && model.instances == now.instances
    }

    pub(super) fn of<'s>(&'s self, instance: &'s str) -> impl Iterator<Item = &'s Arc<Worker>> {
        self.workers.iter().filter(move |worker| *worker.shared.instance == *instance)
    }

    /// Why the sets of `instance` cannot all be brought up to date; `None`: they are open.
    pub(super) fn out_of_use(&self, instance: &str) -> Option<String> {
        let of = |broken: &&Broken| *self.instance(&broken.configured) == *instance;
        self.broken.iter().find(of).map(|broken| broken.why.clone())
    }

    fn instance(&self, configured: &Replicate) -> Arc<str> {
        Arc::clone(&self.ready.model.instance(configured.instance).name)
    }

    pub(super) fn reports(&self) -> Vec<SetReport> {
        let open = self.workers.iter().map(|worker| worker.report());
        open.chain(self.broken_reports()).collect()
    }

    /// What there is to say of sets that are not open.
    pub(super) fn broken_reports(&self) -> impl Iterator<Item = SetReport> {
        self.broken.iter().map(|broken| SetReport {
            set: broken.configured.name.to_string(),
            instance: self.instance(&broken.configured).to_string(),
            alarms: vec![broken.why.clone()],
            ..SetReport::default()
        })
    }
}

fn why(configured: &Replicate, error: &Error) -> String {
    format!(
        "[replicate.{}] is out of use: {error}; the other sets go on, and it is tried again every {} s and at each reload",
        configured.name,
        AGAIN.as_secs()
    )
}

fn tell(words: &UnboundedSender<Word>, configured: &Replicate, text: String, alarm: bool) {
    let _ = words.send(Word::Event { set: configured.name.to_string(), text, alarm });
}

/// The hosts of the instance of a set beside this one, by name.
fn hosts(model: &Model, set: &Replicate) -> Vec<Arc<str>> {
    let priorities = &model.instance(set.instance).priorities;
    let each = model.hosts.iter().zip(priorities).enumerate();
    each.filter(|(ix, (_, priority))| priority.is_some() && *ix != usize::from(model.host.0))
        .map(|(_, (host, _))| Arc::clone(&host.name))
        .collect()
}

/// As [`hosts`], with the addresses of each.
fn others(model: &Model, set: &Replicate) -> Vec<(Arc<str>, Vec<SocketAddr>)> {
    let names = hosts(model, set);
    let of = |name: &Arc<str>| {
        let host = model.hosts.iter().find(|host| host.name == *name);
        let paths = host.map(|host| host.paths.as_slice()).unwrap_or_default();
        paths.iter().map(|path| SocketAddr::new(*path, model.replicate_port)).collect()
    };
    names.iter().map(|name| (Arc::clone(name), of(name))).collect()
}

/// What two hosts must have in common of a set before one takes a tree of the other.
fn identity(set: &Replicate) -> SetId {
    let mut hasher = blake3::Hasher::new();
    let mut part = |octets: &[u8]| {
        hasher.update(&(octets.len() as u64).to_be_bytes());
        hasher.update(octets);
    };
    part(set.name.as_bytes());
    part(&(set.paths.len() as u64).to_be_bytes());
    for path in &set.paths {
        part(path.as_os_str().as_encoded_bytes());
    }
    for pattern in &set.exclude {
        part(pattern.as_bytes());
    }
    part(&[u8::from(set.xattrs), u8::from(set.setuid), u8::from(set.outward_links)]);
    SetId { name: Arc::clone(&set.name), digest: *hasher.finalize().as_bytes() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::super::worker::Stand;
    use super::*;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use vipd_agent::runtime::load;
    use vipd_core::types::Epoch;

    /// Two sets of one instance on host `a`.
    fn ready(base: &Path) -> (Options, Ready) {
        let key = base.join("etc/key");
        if !key.exists() {
            std::fs::create_dir_all(base.join("etc")).unwrap();
            let mut file = std::fs::File::options();
            let mut file = file.write(true).create_new(true).mode(0o600).open(&key).unwrap();
            std::io::Write::write_all(&mut file, "ab".repeat(32).as_bytes()).unwrap();
        }
        let folder = |name: &str| {
            let folder = base.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder.display().to_string()
        };
        let text = format!(
            "[cluster]\nname = \"test\"\nkey-file = \"{}\"\nreplicate-port = 17113\n\
             [hosts.a]\npaths = [\"192.0.2.21\"]\n[hosts.b]\npaths = [\"192.0.2.22\"]\n\
             [instance.web]\nvrid = 61\ninterface = \"eth0\"\naddresses = [\"198.51.100.20/24\"]\n\
             priority = {{ a = 150, b = 100 }}\n\
             [replicate.one]\ninstance = \"web\"\npaths = [\"{}\"]\n\
             [replicate.two]\ninstance = \"web\"\npaths = [\"{}\"]\n",
            key.display(),
            folder("one"),
            folder("two")
        );
        let config = base.join("etc/vipd.toml");
        let model = load::of_text(text, &config, "a").unwrap().meaning;
        let (host, runtime_dir, state_dir) = ("a".to_owned(), base.join("run"), base.join("state"));
        (Options { config, host, runtime_dir, state_dir }, Ready::new(model).unwrap())
    }

    fn alarms(sets: &Sets, set: &str) -> Vec<String> {
        sets.reports().into_iter().find(|report| report.set == set).unwrap().alarms
    }

    fn events(heard: &mut UnboundedReceiver<Word>) -> Vec<(String, bool)> {
        std::iter::from_fn(|| heard.try_recv().ok())
            .filter_map(|word| match word {
                Word::Event { text, alarm, .. } => Some((text, alarm)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_set_that_cannot_be_opened_stops_no_other_and_comes_back_when_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let (options, all) = ready(dir.path());
        let (words, mut heard) = unbounded_channel();
        let bad = options.state_dir.join("replicate/one");
        std::fs::create_dir_all(&bad).unwrap();
        std::fs::write(bad.join("record"), "nonsense\n").unwrap();
        let mut sets = Sets::open(&options, all, &words);
        assert_eq!(sets.workers.len(), 1);
        assert_eq!(*sets.workers[0].shared.name, *"two");
        // Said with its place and its fix, as long as it is so; the set is shown, and holds a planned move back.
        let said = alarms(&sets, "one").join("\n");
        for part in ["[replicate.one]", "replicate/one/record", "move", "the other sets go on"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(events(&mut heard), [(said.clone(), true)]);
        assert_eq!(sets.out_of_use("web"), Some(said));
        sets.try_now();
        assert!(!sets.try_again(&options, &words));
        assert_eq!(events(&mut heard), [], "the same again is no news");
        std::fs::remove_file(bad.join("record")).unwrap();
        assert!(!sets.try_again(&options, &words), "not before it is time");
        sets.try_now();
        assert!(sets.try_again(&options, &words));
        assert_eq!(sets.out_of_use("web"), None);
        assert_eq!(sets.workers.len(), 2);
        sets.stop();
    }

    #[test]
    fn a_reload_waits_for_a_worker_that_reads_a_large_file_and_never_opens_a_set_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (options, all) = ready(dir.path());
        let (words, mut heard) = unbounded_channel();
        // Many seconds to hash.
        std::fs::File::create(dir.path().join("one/large")).unwrap().set_len(64 << 30).unwrap();
        let mut sets = Sets::open(&options, all, &words);
        for worker in sets.of("web") {
            worker.stand(Stand { owns: true, epoch: Epoch { number: 1, host: 1 } });
        }
        std::thread::sleep(Duration::from_millis(300));
        let before = clock::monotonic();
        sets.stop();
        eprintln!("stopped after {} ms", clock::monotonic().since(before).as_millis());
        let mut sets = Sets::open(&options, ready(dir.path()).1, &words);
        assert_eq!(sets.workers.len(), 2, "{:?}", events(&mut heard));
        sets.stop();
        // Somebody else is still at it: never two.
        let model = ready(dir.path()).1.model;
        let other = Arc::new(model.replicates[0].clone());
        let other = Set::open(other, &options.state_dir, Clock::system()).unwrap();
        let mut sets = Sets::open(&options, ready(dir.path()).1, &words);
        assert_eq!(sets.workers.len(), 1);
        assert!(alarms(&sets, "one")[0].contains("another vipd-replicate"));
        drop(other);
        sets.try_now();
        assert!(sets.try_again(&options, &words));
        sets.stop();
    }
}
