//! `vipd cleanup`: takes off what a dead agent left, after telling the peers (priority 0), so that the address moves
//! instead of vanishing.
//!
//! Runs without an engine: nothing is decided here. Beside a live agent it refuses.

use super::keys;
use super::load;
use super::lock::{Lock, LockError};
use crate::kernel::{Claims, Cleaned, Worker, cleanup};
use crate::sys::capability::{self, Missing};
use crate::sys::{AlreadyRunning, Delivery, NamespaceLock, VrrpSocket, clock};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use vipd_core::config::model::{Auth, HmacMode, Instance, Model, Transport};
use vipd_core::engine::Secrets;
use vipd_core::engine::io::KernelAddr;
use vipd_core::types::{Family, IfIndex, InstanceIx, LinkIx, Mac};
use vipd_core::wire::auth::{KeyRing, Signer};
use vipd_core::wire::vrrp::Advert;

/// Why nothing was cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// A right is missing.
    #[error(transparent)]
    Capability(#[from] Missing),
    /// An agent is alive, or the folder cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An agent with another runtime folder is alive.
    #[error(transparent)]
    Namespace(#[from] AlreadyRunning),
    /// Netlink does not work.
    #[error("cannot open a netlink socket: {0}")]
    Netlink(#[from] io::Error),
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Instances whose peers were told, with their families.
    pub told: Vec<String>,
    /// Why peers were not told.
    pub untold: Vec<String>,
    /// What was taken off.
    pub cleaned: Cleaned,
}

/// Cleans up this network namespace. The configuration is only needed to tell the peers.
///
/// # Errors
/// When an agent is alive or a right is missing. What cannot be taken off is in the result.
pub fn run(config: &Path, host: &str, runtime_dir: &Path) -> Result<Done, CleanupError> {
    capability::check()?;
    let _folder = Lock::take(runtime_dir)?;
    let _namespace = NamespaceLock::acquire()?;
    let mut done = Done::default();
    match load::for_host(config, host) {
        Ok(loaded) => tell_peers(loaded.meaning, runtime_dir, &mut done)?,
        Err(error) => done.untold.push(error.to_string()),
    }
    done.cleaned = cleanup(runtime_dir)?;
    Ok(done)
}

fn tell_peers(mut model: Model, runtime_dir: &Path, done: &mut Done) -> io::Result<()> {
    let secrets = keys::secrets(&model).unwrap_or_else(|error| {
        done.untold.push(error.to_string());
        Secrets::default()
    });
    for instance in &mut model.instances {
        // The worker would install the packet filter that is about to go.
        instance.accept = true;
    }
    let model = Arc::new(model);
    let mut worker =
        Worker::new(Arc::clone(&model), runtime_dir, Arc::new(Claims::open(runtime_dir)))?;
    for (link, _) in (0u16..).map(LinkIx).zip(&model.links) {
        let present = match worker.snapshot(link) {
            Ok(present) => present,
            Err(error) => {
                done.untold.push(error.to_string());
                continue;
            }
        };
        let left: BTreeSet<IpAddr> = present.iter().filter(|a| a.ours).map(|a| a.addr).collect();
        for (ix, instance) in model.iter().filter(|(_, i)| i.link == link) {
            let ring = secrets.trailers.get(usize::from(ix.0)).and_then(Option::as_ref);
            for family in instance.families() {
                if !instance.claimed().any(|vip| vip.family() == family && left.contains(&vip.addr))
                {
                    continue;
                }
                let name = format!("{} {family}", instance.name);
                match release(&model, ix, family, &present, ring) {
                    Ok(()) => done.told.push(name),
                    Err(error) => done.untold.push(format!("{name}: {error}")),
                }
            }
        }
    }
    Ok(())
}

/// Priority 0 for one virtual router.
fn release(
    model: &Model,
    ix: InstanceIx,
    family: Family,
    present: &[KernelAddr],
    ring: Option<&KeyRing>,
) -> io::Result<()> {
    let instance = model.instance(ix);
    let name = model.links.get(usize::from(instance.link.0)).map_or("", |link| link.name.as_ref());
    let index = nix::net::if_::if_nametoindex(name)?;
    let index = IfIndex::new(index).ok_or(io::ErrorKind::NotFound)?;
    let src = source(instance, family, present)
        .ok_or_else(|| io::Error::other(format!("{name} has no {family} address to send from")))?;
    let advert = Advert {
        version: instance.version_in(family),
        vrid: instance.vrid,
        priority: 0,
        interval: instance.interval,
        addresses: instance.advertised(family).map(|vip| vip.addr).collect(),
        simple_text: match instance.auth {
            Auth::SimpleText(text) if family == Family::V4 => Some(text),
            _ => None,
        },
    };
    let mut signer = match (&instance.auth, ring) {
        (Auth::Hmac(hmac), Some(ring)) if hmac.mode != HmacMode::ReceiveOnly => {
            Some(Signer::new(ring.clone(), hmac.window))
        }
        _ => None,
    };
    let destinations = match &instance.transport {
        Transport::Multicast => vec![family.group()],
        Transport::Unicast(peers) => {
            peers.iter().copied().filter(|p| Family::of(p) == family).collect()
        }
    };
    let delivery = Delivery { multicast: false, unicast: false };
    let socket = VrrpSocket::open(name, index, family, delivery)?;
    for dst in destinations {
        let mut message = advert.encode(src, dst, instance.checksum);
        if let Some(signer) = &mut signer {
            signer.sign(clock::utc(), advert.version, advert.vrid, src, dst, &mut message);
        }
        if instance.virtual_mac && dst == family.group() {
            socket.send_from_mac(Mac::virtual_router(family, instance.vrid), src, &message)?;
        } else {
            socket.send(src, dst, &message)?;
        }
    }
    Ok(())
}

/// The address that a running agent would send from: peers know this host by it.
fn source(instance: &Instance, family: Family, present: &[KernelAddr]) -> Option<IpAddr> {
    let real = |a: &&KernelAddr| !a.ours && Family::of(&a.addr) == family;
    let fits = |a: &&KernelAddr| instance.is_source(a.addr);
    let found = present.iter().filter(real).find(fits).map(|a| a.addr);
    instance.source_in(family).or(found)
}
