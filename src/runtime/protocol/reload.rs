//! Another configuration on the protocol thread: the engine takes it over, and at the word of the engine everything that
//! this thread numbers by the model is exchanged in one go.

use super::{Protocol, recall};
use crate::runtime::neighbours::Filter;
use crate::runtime::queue::Reload;
use crate::sys::clock;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::Input;
use vipd_core::engine::reload::Renumber;
use vipd_core::types::{InstanceIx, LinkIx};

impl Protocol {
    pub(super) fn reload(&mut self, reload: Reload) {
        let Reload { model, secrets, recalled, told } = reload;
        self.told_next = Some(told);
        self.feed(Input::Reload(model, secrets));
        recall(&mut self.engine, recalled);
        self.carry_out();
        if let Some(told) = self.told_next.take() {
            // The engine stops, and wants no other configuration: who drains the old way must see its end all the same.
            self.told = told;
        }
    }

    /// What the engine says from here on is numbered by `model`.
    pub(super) fn put_in_force(&mut self, model: Arc<Model>) {
        // First: nothing of the old numbers may be carried out under the new ones.
        self.slots.reload(&model);
        let renumber = Renumber::between(&self.model, &model);
        let filters = (0u16..).map(LinkIx).zip(&model.links);
        let fresh = filters.map(|(link, _)| Filter::new(&model, link)).collect();
        let before = std::mem::replace(&mut self.filters, fresh);
        for (was, filter) in (0u16..).map(LinkIx).zip(before) {
            let now = renumber.link(was).and_then(|ix| self.filters.get_mut(usize::from(ix.0)));
            if let Some(mine) = now {
                mine.go_on(filter);
            }
        }
        let before = std::mem::replace(&mut self.announced, vec![0; model.instances.len()]);
        for (was, count) in (0u16..).map(InstanceIx).zip(before) {
            let now =
                renumber.instance(was).and_then(|ix| self.announced.get_mut(usize::from(ix.0)));
            if let Some(mine) = now {
                *mine = count;
            }
        }
        if let Some(pulse) = &mut self.pulse {
            pulse.reload(&model);
        }
        if let Some(told) = self.told_next.take() {
            self.told = told;
        }
        let news = self.sockets.reload(&model, &self.poller, clock::monotonic());
        self.model = model;
        self.tell_sockets(news);
    }
}
