//! Would an order be carried out, and what would it do? Looks and changes nothing: it answers refusals, `--dry-run` and
//! `vipd simulate`.

use super::super::Engine;
use super::super::io::OperatorOrder;
use crate::types::{InstanceIx, State};

impl Engine {
    /// What `order` would do now, for `instance` or, with `None`, for all of this host.
    ///
    /// # Errors
    /// Why it is refused, and what to do about it.
    pub fn judge(
        &self,
        instance: Option<InstanceIx>,
        order: &OperatorOrder,
    ) -> Result<String, String> {
        let known = |ix: &InstanceIx| usize::from(ix.0) < self.model.instances.len();
        if let Some(ix) = instance.filter(|ix| !known(ix)) {
            return Err(format!("there is no instance number {}", ix.0));
        }
        match order {
            OperatorOrder::Promote => self.judge_promote(instance),
            OperatorOrder::Acknowledge => Ok("what is held may move again".into()),
            _ => Err("this release does not know how to do that".into()),
        }
    }

    fn judge_promote(&self, instance: Option<InstanceIx>) -> Result<String, String> {
        let Some(ix) = instance else {
            return Err("say which instance is to be promoted".into());
        };
        let name = &self.model.instance(ix).name;
        let is = |state: State| move |u: &usize| self.units[*u].state() == state;
        let units = self.units_of(ix);
        if self.stopping {
            return Err("the agent is stopping".into());
        }
        if units.iter().all(is(State::Active)) {
            return Err(format!("{name} is active on this host already"));
        }
        if !units.iter().any(is(State::Backup)) {
            return Err(format!(
                "{name} cannot be active on this host: see `vipd status` for the reason"
            ));
        }
        if let Some(why) = self.promotion_refused(ix) {
            return Err(why);
        }
        Ok(format!("{name} is told to claim"))
    }
}
