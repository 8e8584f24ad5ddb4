//! A machine of the room: a network and a host name of its own, and a thread that lives in it.
//!
//! Used by the topology, the prober, the eyes and the agents: whatever must happen "on" a machine
//! (open a socket, start a process) is a job for its thread. Never the machine on which the lab runs.

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::fs::MetadataExt as _;
use std::sync::mpsc;
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace of network and host name. Gone when dropped and when its sockets and processes are.
#[derive(Debug)]
pub struct Netns {
    name: String,
    net: File,
    inode: u64,
    jobs: Option<mpsc::Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
}

impl Netns {
    /// Makes an empty machine called `name`, with its loopback up.
    ///
    /// # Errors
    /// When the kernel refuses another namespace (limit `user.max_net_namespaces`).
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let hostname = name.to_owned();
        let keeper = std::thread::Builder::new().name(format!("lab-{name}")).spawn(move || {
            let entered = enter_fresh(&hostname);
            let ok = entered.is_ok();
            if ready.send(entered).is_ok() && ok {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        let net = made
            .recv()
            .map_err(|_| anyhow!("the thread of machine {name} died"))?
            .with_context(|| format!("cannot make machine {name}"))?;
        let inode = net.metadata()?.st_ino();
        let ns = Self { name: name.into(), net, inode, jobs: Some(jobs), keeper: Some(keeper) };
        ns.run(|| {
            super::netlink::Rtnl::open()?.set_state("lo", super::netlink::LinkState::Up)?;
            Ok(())
        })?;
        Ok(ns)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `job` on this machine and returns what it returned.
    ///
    /// # Errors
    /// Those of `job`; a panic in `job` ends the machine.
    pub fn run<T, F>(&self, job: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> anyhow::Result<T> + Send + 'static,
    {
        let (done, result) = mpsc::channel();
        let jobs = self.jobs.as_ref().ok_or_else(|| anyhow!("machine {} is off", self.name))?;
        let gone = || anyhow!("the thread of machine {} died", self.name);
        jobs.send(Box::new(move || drop(done.send(job())))).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Processes that live on this machine, by id; never the lab itself.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<i32>> {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").context("cannot list /proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            // A process that ended meanwhile has no namespace to look at.
            let ns = std::fs::metadata(format!("/proc/{pid}/ns/net"));
            if pid != me && ns.is_ok_and(|m| m.st_ino() == self.inode) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(keeper) = self.keeper.take() {
            // A job that panicked has been reported to who sent it.
            let _ = keeper.join();
        }
    }
}

fn enter_fresh(hostname: &str) -> anyhow::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)?;
    nix::unistd::sethostname(hostname)?;
    // No host of a room waits for duplicate address detection: nobody else can be there.
    for scope in ["all", "default"] {
        let conf = format!("/proc/sys/net/ipv6/conf/{scope}");
        // Without IPv6 in the kernel there is nothing to switch off.
        if std::path::Path::new(&conf).exists() {
            write_sysctl(&format!("{conf}/accept_dad"), "0")?;
            write_sysctl(&format!("{conf}/dad_transmits"), "0")?;
        }
    }
    File::open("/proc/thread-self/ns/net").context("cannot open the new network namespace")
}

/// Writes one kernel setting of the namespace in which the calling thread is.
///
/// # Errors
/// With the path, when the kernel does not have it or refuses the value.
pub fn write_sysctl(path: &str, value: &str) -> anyhow::Result<()> {
    std::fs::write(path, value).with_context(|| format!("cannot set {path} to {value}"))
}
