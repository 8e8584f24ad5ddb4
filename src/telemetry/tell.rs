//! Events to the log, with repeats held back, and the one-line state for the service manager.

use super::fields::Fields;
use super::limit::{Limiter, Verdict};
use super::text::Narrator;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::Level;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Event, EventKind};
use vipd_core::engine::reload::Renumber;
use vipd_core::types::{InstanceIx, State};

/// Lines of one kind in 60 s before they are held back.
const BURST: u32 = 10;

/// An event, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// How much it matters.
    pub level: Level,
    /// The line, whether it was logged or held back.
    pub line: String,
    /// The new one-line state, when it changed.
    pub state: Option<String>,
}

/// Tells the events of one agent.
#[derive(Debug)]
pub struct Teller {
    model: Arc<Model>,
    narrator: Narrator,
    limiter: Limiter,
    states: BTreeMap<InstanceIx, State>,
}

impl Teller {
    /// For the instances and hosts of `model`.
    pub fn new(model: Arc<Model>) -> Self {
        let narrator = Narrator::new(Arc::clone(&model));
        Self { model, narrator, limiter: Limiter::new(BURST), states: BTreeMap::new() }
    }

    /// Another configuration: who owned what is still known.
    pub fn reload(&mut self, model: Arc<Model>, renumber: &Renumber) {
        self.narrator.reload(Arc::clone(&model), renumber);
        let states = std::mem::take(&mut self.states).into_iter();
        self.states =
            states.filter_map(|(ix, state)| Some((renumber.instance(ix)?, state))).collect();
        self.model = model;
    }

    /// Logs `event`, unless too many like it were logged just now.
    pub fn tell(&mut self, event: &Event) -> Telling {
        // Narrated even when held back: it has to know who owned what.
        let (level, line) = self.narrator.tell(event);
        match self.limiter.ask(Narrator::kind(event), event.at) {
            Verdict::Hold => {}
            Verdict::Tell { suppressed: 0 } => {
                Fields::of(&self.model, event, 0).log(level, &line);
            }
            Verdict::Tell { suppressed } => {
                let line = format!("{line} (and {suppressed} more like it before)");
                Fields::of(&self.model, event, suppressed).log(level, &line);
            }
        }
        let mut state = None;
        if let (Some(instance), EventKind::Transition { to, .. }) = (event.instance, &event.kind) {
            self.states.insert(instance, *to);
            state = Some(self.summary());
        }
        Telling { level, line, state }
    }

    /// `web active, dns backup`; figures when there are many.
    fn summary(&self) -> String {
        const NAMED: usize = 4;
        let state = |ix: &InstanceIx| self.states.get(ix).copied().unwrap_or(State::Initialize);
        if self.model.instances.len() <= NAMED {
            let each: Vec<String> =
                self.model.iter().map(|(ix, i)| format!("{} {}", i.name, state(&ix))).collect();
            return each.join(", ");
        }
        let count = |wanted: State| self.model.iter().filter(|(ix, _)| state(ix) == wanted).count();
        format!(
            "{} active, {} backup, {} initialize",
            count(State::Active),
            count(State::Backup),
            count(State::Initialize)
        )
    }
}
