//! Frames between the machines of the world: who gets what, and what kernels answer by themselves.

use crate::engine::secrets;
use crate::host::Item;
use crate::invariants::Fact;
use crate::scenario::{self, heartbeat_source, mac};
use crate::wire::Net;
use crate::world::{Breakage, Event, Frame, World};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use vipd_core::engine::io::{HeartbeatOut, Probe, Transmit};
use vipd_core::types::{Family, Mac, PathIx, Vrid};
use vipd_core::wire::heartbeat::{Heartbeat, HeartbeatKey};

impl World {
    /// The number of the gateway among the nodes.
    fn gateway(&self) -> usize {
        self.hosts.len()
    }

    fn post(&mut self, net: Net, from: usize, to: usize, frame: &Frame) {
        let advert = matches!(frame, Frame::Advert { .. });
        for at in self.wire.send(self.now, net, from, to, advert).into_iter().flatten() {
            self.at(at, Event::Arrive { net, from, to, frame: frame.clone() });
        }
    }

    /// To every other node on the service segment.
    pub(crate) fn broadcast(&mut self, from: usize, frame: &Frame) {
        for to in (0..=self.hosts.len()).filter(|to| *to != from) {
            self.post(Net::Service, from, to, frame);
        }
    }

    pub(crate) fn send_advert(&mut self, host: usize, transmit: Transmit) {
        if !self.hosts[host].connected() {
            return;
        }
        let Transmit { router, src, dst, payload, .. } = transmit;
        for (dst, payload) in dst.into_iter().zip(payload) {
            self.note(Fact::Advert(host, router.family, payload[2]));
            let frame = Frame::Advert { src, dst, payload: Rc::from(payload) };
            // Multicast in every scenario; the gateway does not listen.
            for to in (0..self.hosts.len()).filter(|to| *to != host) {
                self.post(Net::Service, host, to, &frame);
            }
        }
    }

    pub(crate) fn send_heartbeat(&mut self, host: usize, out: &HeartbeatOut) {
        let path = usize::from(out.path.0);
        let net = [Net::Service, Net::Second][path];
        let to = (0..self.hosts.len()).find(|h| scenario::heartbeat_addrs(*h)[path] == out.to.ip());
        let carrier = net == Net::Second || self.hosts[host].connected();
        if let Some(to) = to.filter(|_| carrier) {
            let payload = Rc::from(&*self.as_released(host, &out.payload));
            self.post(net, host, to, &Frame::Heartbeat { path, payload });
        }
    }

    /// The heartbeat as it goes out; with the breakage of that rule as of a release that knows of no planned preemption.
    fn as_released<'a>(&self, host: usize, payload: &'a [u8]) -> Cow<'a, [u8]> {
        if self.breakage != Some(Breakage::Preemption) {
            return Cow::Borrowed(payload);
        }
        let model = &self.hosts[host].model;
        let key = HeartbeatKey::derive(&secrets(model).cluster_key.unwrap(), &model.cluster);
        let mut beat = Heartbeat::decode(payload, &key).unwrap();
        beat.instances.iter_mut().for_each(|record| record.plans_preemption = false);
        Cow::Owned(beat.encode(&key))
    }

    pub(crate) fn send_probe(&mut self, host: usize, probe: &Probe) {
        if self.hosts[host].connected() {
            let frame = Frame::Ask { addr: probe.addr, to: probe.to, from: probe.from };
            self.broadcast(host, &frame);
        }
    }

    /// The client asks the segment who has the address.
    pub(crate) fn resolve(&mut self, addr: IpAddr) {
        self.client.ask(addr);
        let from = mac(self.gateway());
        self.broadcast(self.gateway(), &Frame::Ask { addr, to: None, from });
    }

    /// A frame reaches a node: kernels answer by themselves, whatever the agent does.
    pub(crate) fn arrive(&mut self, net: Net, from: usize, to: usize, frame: &Frame) {
        if to == self.gateway() {
            self.arrive_at_gateway(frame);
            return;
        }
        let host = &mut self.hosts[to];
        if !host.powered() || net == Net::Service && !host.connected() {
            return;
        }
        // The packet socket is read while the engine waits for a sign of life, and only then.
        let waits = host.agent.runs() && host.brain.as_ref().is_some_and(|b| b.settling());
        if net == Net::Service && waits {
            self.deliver(to, Item::FrameSeen);
        }
        let at = self.now;
        match frame {
            Frame::Advert { src, dst, payload } => {
                let payload = Rc::clone(payload);
                self.deliver(to, Item::Advert { at, from, src: *src, dst: *dst, payload });
            }
            Frame::Heartbeat { path, payload } => {
                let (src, payload) = (heartbeat_source(from, *path), Rc::clone(payload));
                self.deliver(to, Item::Heartbeat { at, path: PathIx(*path as u8), src, payload });
            }
            Frame::Announce { addr, mac } => {
                self.deliver(to, Item::Neighbour { addr: *addr, mac: *mac, reply: false });
            }
            Frame::Ask { addr, to: dst, from: asker } => {
                let holds = self.hosts[to].kernel.holds(*addr);
                let own = scenario::own_addrs(to).contains(addr);
                if (holds || own) && self.listens(to, *dst, *addr) {
                    let mac = if holds { self.service_mac(to, *addr) } else { mac(to) };
                    self.reply(to, *addr, mac, *asker);
                }
            }
            Frame::Answer { addr, mac } => {
                self.deliver(to, Item::Neighbour { addr: *addr, mac: *mac, reply: true });
            }
            Frame::Noise => {}
        }
    }

    fn arrive_at_gateway(&mut self, frame: &Frame) {
        let me = mac(self.gateway());
        match frame {
            Frame::Announce { addr, mac } => self.client.announcement(*addr, *mac),
            Frame::Answer { addr, mac } => self.client.answer(*addr, *mac),
            Frame::Ask { addr, to, from: asker } => {
                let asked = to.is_none_or(|to| to == me) && scenario::gateways().contains(addr);
                if asked {
                    self.reply(self.gateway(), *addr, me, *asker);
                }
                return;
            }
            Frame::Advert { .. } | Frame::Heartbeat { .. } | Frame::Noise => return,
        }
        let (Frame::Announce { addr, .. } | Frame::Answer { addr, .. }) = frame else { return };
        if let Some(entry) = self.client.entry(*addr) {
            self.note(Fact::Sees(*addr, entry));
        }
    }

    /// Does the interface of `host` take frames to this Ethernet destination?
    fn listens(&self, host: usize, dst: Option<Mac>, addr: IpAddr) -> bool {
        dst.is_none_or(|dst| dst == mac(host) || dst == self.service_mac(host, addr))
    }

    /// The MAC under which `host` serves an address that it holds.
    fn service_mac(&self, host: usize, addr: IpAddr) -> Mac {
        match self.hosts[host].model.instances[0].virtual_mac {
            true => Mac::virtual_router(Family::of(&addr), Vrid::new(51).unwrap()),
            false => mac(host),
        }
    }

    fn reply(&mut self, from: usize, addr: IpAddr, holder: Mac, asker: Mac) {
        if let Some(to) = (0..=self.hosts.len()).find(|n| mac(*n) == asker) {
            self.post(Net::Service, from, to, &Frame::Answer { addr, mac: holder });
        }
    }
}
