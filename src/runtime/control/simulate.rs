//! `simulate`: a picture of the engine, and its play on a thread of its own. Reads; nothing real hears of it.

use super::Control;
use super::orders::{host, instance};
use crate::control::protocol::{Answer, Body, Code, WhatIf};
use crate::runtime::queue::Message;
use crate::runtime::report::prediction;
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use vipd_core::config::{self, model::Model};
use vipd_core::engine::io::OperatorOrder;
use vipd_core::engine::simulate;
use vipd_core::types::{CheckIx, LinkIx};

/// The protocol thread makes a copy; later means that it does not run.
const PATIENCE: Duration = Duration::from_secs(2);

impl Control {
    /// What would happen.
    pub(super) async fn simulate(&self, event: &WhatIf) -> Answer {
        let shared = &self.0;
        let Ok(_seat) = Arc::clone(&shared.plays).try_acquire_owned() else {
            return Answer::error(Code::Busy, "another simulation is being played; try again");
        };
        let model = shared.facts.in_force.model();
        let what = match what_if(&model, event) {
            Ok(what) => what,
            Err(why) => return Answer::error(Code::Refused, why),
        };
        let (tx, rx) = oneshot::channel();
        if shared.protocol.send(Message::Picture(tx)).is_err() {
            return super::reporter::stopping();
        }
        let picture = match tokio::time::timeout(PATIENCE, rx).await {
            Ok(Ok(picture)) => picture,
            Ok(Err(_)) => return super::reporter::stopping(),
            Err(_) => return super::reporter::silent(),
        };
        let file = shared.facts.in_force.text();
        let play = move || {
            // As this host sees it the file was read before: what other hosts make of it has the same verdict.
            let (models, _) = config::load_all_hosts(&file, "vipd.toml")
                .map_err(|_| "the configuration in use cannot be read any more".to_owned())?;
            let played = picture.play(&models, &what, clock::now())?;
            Ok::<_, String>(prediction(&model, &what, &played))
        };
        // Long intervals and many instances take a while, and this thread has others to answer.
        match tokio::task::spawn_blocking(play).await {
            Ok(Ok(document)) => Answer::new(Body::Prediction(Box::new(document))),
            Ok(Err(why)) => Answer::error(Code::Refused, why),
            Err(_) => super::reporter::stopping(),
        }
    }
}

/// Names become what the engine knows.
fn what_if(model: &Model, event: &WhatIf) -> Result<simulate::WhatIf, String> {
    Ok(match event {
        WhatIf::PeerDead { host: name } => simulate::WhatIf::PeerDead(host(model, name)?),
        WhatIf::PowerOff {} => simulate::WhatIf::PowerOff,
        WhatIf::LinkDown { interface } => {
            simulate::WhatIf::LinkDown(link(model, interface.as_deref())?)
        }
        WhatIf::Partition { interface: None } => simulate::WhatIf::Partition(None),
        WhatIf::Partition { interface } => {
            simulate::WhatIf::Partition(Some(link(model, interface.as_deref())?))
        }
        WhatIf::Check { check: name, verdict } => {
            simulate::WhatIf::Check(check(model, name)?, *verdict)
        }
        WhatIf::Stop {} => simulate::WhatIf::Stop,
        WhatIf::Move { instance: name, to } => {
            let to = to.as_deref().map(|name| host(model, name)).transpose()?;
            let order = OperatorOrder::Move { to, force: false };
            simulate::WhatIf::Order(Some(instance(model, name)?), order)
        }
        WhatIf::Drain {} => {
            let order =
                OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
            simulate::WhatIf::Order(None, order)
        }
    })
}

/// The service interface of that name; the only one where no name is given.
fn link(model: &Model, name: Option<&str>) -> Result<LinkIx, String> {
    let names = || model.links.iter().map(|l| &*l.name).collect::<Vec<_>>().join(", ");
    let mut all = (0u16..).map(LinkIx).zip(&model.links);
    match (name, model.links.len()) {
        (None, 1) => Ok(LinkIx(0)),
        (None, _) => Err(format!("say which service interface: {}", names())),
        (Some(name), _) => {
            all.find(|(_, link)| *link.name == *name).map(|(ix, _)| ix).ok_or_else(|| {
                format!("{name} is no service interface of this host; there are: {}", names())
            })
        }
    }
}

fn check(model: &Model, name: &str) -> Result<CheckIx, String> {
    let mut all = (0u16..).map(CheckIx).zip(&model.checks);
    all.find(|(_, check)| *check.name == *name).map(|(ix, _)| ix).ok_or_else(|| {
        let names: Vec<&str> = model.checks.iter().map(|c| &*c.name).collect();
        match names.is_empty() {
            true => format!("there is no check {name}: this host has none"),
            false => {
                format!("there is no check {name} on this host; there are: {}", names.join(", "))
            }
        }
    })
}
