//! What stands in the configuration: the only programs that `vipd exec` starts, and as whom.
//!
//! Made anew for each connection of an agent, which is when a changed configuration counts. Users are looked up here
//! and not at the start of a program: the lookup may block.

use super::guard::{self, Unsafe};
use super::protocol::{Occasion, Which};
use crate::sys::process::Identity;
use nix::unistd::{Uid, User, geteuid, getgrouplist};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vipd_core::config::model::{Account, Call, HookRun, Model, Moment, Probe, Program};

/// Everything that may be started.
#[derive(Debug, Default)]
pub(super) struct Books {
    programs: HashMap<Which, Entry>,
    fifos: HashMap<String, PathBuf>,
}

/// A program that may be started.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As configured.
    pub program: Program,
    /// How it is called.
    pub call: Call,
    /// As whom, or why not.
    pub identity: Result<Person, String>,
    /// How long a hook may take by moment, where that differs.
    times: Vec<(Moment, Duration)>,
}

/// A user as programs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// Login name.
    pub name: String,
    /// Home folder.
    pub home: PathBuf,
    /// Number of the user.
    pub uid: u32,
    /// To switch to; `None`: the executor's own.
    pub switch: Option<Identity>,
}

impl Books {
    /// The programs of `model`.
    pub(super) fn new(model: &Model) -> Self {
        let mut people: HashMap<Option<Arc<str>>, Result<Person, String>> = HashMap::new();
        let mut programs = HashMap::new();
        let mut fifos = HashMap::new();
        let mut add = |which: Which, program: &Program, call: Call| {
            let name = match &program.account {
                Account::Default => None,
                Account::User(name) => Some(Arc::clone(name)),
            };
            let identity = people.entry(name).or_insert_with(|| person(&program.account)).clone();
            let times = Vec::new();
            programs.insert(which, Entry { program: program.clone(), call, identity, times });
        };
        for hook in &model.hooks {
            match &hook.run {
                HookRun::Program(program, call) => {
                    add(Which::Hook(hook.name.to_string()), program, *call);
                }
                HookRun::Fifo(path) => {
                    fifos.insert(hook.name.to_string(), path.clone());
                }
            }
        }
        for check in &model.checks {
            if let Probe::Script(program) = &check.probe {
                // Bounded by the check's own time limit, as a script that takes longer has failed.
                let program = Program { timeout: check.timeout, ..program.clone() };
                add(Which::Check(check.name.to_string()), &program, Call::Vipd);
            }
        }
        for instance in &model.instances {
            if let Some(activation) = instance.standby.activation() {
                let which = Which::Activation(instance.name.to_string());
                add(which, &activation.program, Call::Vipd);
            }
        }
        for hook in &model.hooks {
            if let Some(entry) = programs.get_mut(&Which::Hook(hook.name.to_string())) {
                entry.times = hook.on.iter().map(|moment| (*moment, hook.time(*moment))).collect();
            }
        }
        Self { programs, fifos }
    }

    /// The program that `which` names.
    pub(super) fn program(&self, which: &Which) -> Option<&Entry> {
        self.programs.get(which)
    }

    /// The FIFO of this hook.
    pub(super) fn fifo(&self, hook: &str) -> Option<&Path> {
        self.fifos.get(hook).map(PathBuf::as_path)
    }
}

impl Entry {
    /// How long it may take, told of `occasion`: as configured, and no longer than who asks for it waits.
    pub(super) fn time(&self, occasion: Option<&Occasion>) -> Duration {
        let Some(occasion) = occasion else { return self.program.timeout };
        let moment = occasion.event.moment();
        let own = self.times.iter().find(|(of, _)| *of == moment).map(|(_, time)| *time);
        let own = own.unwrap_or(self.program.timeout);
        match occasion.deadline_ms {
            0 => own,
            ms => own.min(Duration::from_millis(ms)),
        }
    }

    /// Whom it runs as, if nobody else could have changed the program.
    ///
    /// # Errors
    /// Why it is refused, with the fix.
    pub(super) fn cleared(&self) -> Result<&Person, String> {
        let person = self.identity.as_ref().map_err(Clone::clone)?;
        let Some(path) = self.program.argv.first() else {
            return Err("the configuration names no program".into());
        };
        guard::verify(Path::new(&**path), &[geteuid().as_raw(), person.uid])
            .map_err(|error: Unsafe| error.to_string())?;
        Ok(person)
    }
}

/// As whom `account` runs.
fn person(account: &Account) -> Result<Person, String> {
    let me = geteuid();
    let (name, user) = match account {
        Account::Default if me.is_root() => ("nobody", User::from_name("nobody")),
        Account::Default => ("", User::from_uid(me)),
        Account::User(name) => (&**name, User::from_name(name)),
    };
    let user = user.map_err(|error| format!("cannot look up user {name}: {error}"))?;
    let Some(user) = user else {
        return match account {
            // Programs run as whoever this is, listed or not.
            Account::Default if !me.is_root() => Ok(nameless(me)),
            _ => Err(format!("there is no user {name}: create it, or set `user` to another one")),
        };
    };
    if user.uid == me && (!me.is_root() || matches!(account, Account::User(_))) {
        return Ok(Person {
            name: user.name,
            home: user.dir,
            uid: user.uid.as_raw(),
            switch: None,
        });
    }
    if !me.is_root() {
        return Err(format!(
            "`vipd exec` runs as user {me} and cannot switch to {name}: start vipd-exec.service, which may"
        ));
    }
    let groups = CString::new(user.name.as_str())
        .map_err(|error| error.to_string())
        .and_then(|name| getgrouplist(&name, user.gid).map_err(|error| error.to_string()))
        .map_err(|error| format!("cannot look up the groups of user {name}: {error}"))?;
    let switch = Some(Identity { uid: user.uid, gid: user.gid, groups });
    Ok(Person { name: user.name, home: user.dir, uid: user.uid.as_raw(), switch })
}

fn nameless(uid: Uid) -> Person {
    Person { name: uid.to_string(), home: "/".into(), uid: uid.as_raw(), switch: None }
}
