//! The meaning of a configuration as text, independent of how the file is formatted.
//!
//! Hashed into [`Model::hash`], which hosts compare: every field of every host's model is in it, in a
//! spelling that is vipd's own, so that the value does not change with the compiler. Structs are taken
//! apart without `..`: a new field does not compile until it is here.

use super::model::{
    Auth, ChecksumFlavour, Claim, Heartbeat, HmacAuth, HmacMode, Host, Instance, Link, Model,
    OnConflict, SyncGroup, Telemetry, Transport, VirtualRoute, VirtualRule,
};
use crate::time::Duration;
use std::fmt::{Display, Write};
use std::path::Path;

/// The models of all hosts as text.
pub(super) fn render(models: &[Model]) -> String {
    let mut out = Canonical(String::from("vipd-configuration 1\n"));
    for model in models {
        out.model(model);
    }
    out.0
}

/// Text under construction: one `key value` per line.
struct Canonical(String);

impl Canonical {
    fn line(&mut self, key: &str, value: impl Display) {
        // invariant: writing to a String cannot fail.
        let _ = writeln!(self.0, "{key} {value}");
    }

    fn lines<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.line(key, value);
        }
    }

    fn length(&mut self, key: &str, value: Duration) {
        self.line(key, value.as_nanos());
    }

    /// Key files are compared by path; the heartbeats tell whether their content is the same.
    fn path(&mut self, key: &str, value: &Path) {
        self.line(key, value.display());
    }

    fn model(&mut self, model: &Model) {
        let Model {
            cluster,
            host,
            hosts,
            heartbeat,
            links,
            instances,
            sync_groups,
            checks,
            hooks,
            replicates,
            replicate_port,
            telemetry: Telemetry { listen },
            hash: _,
        } = model;
        self.line("model", host.0);
        self.line("cluster", cluster);
        for Host { name, paths } in hosts {
            self.line("host", name);
            self.lines("path", paths);
        }
        if let Some(Heartbeat { port, key_file, interval }) = heartbeat {
            self.line("port", port);
            self.path("key-file", key_file);
            self.line("interval", interval.centis());
        }
        for Link { name, settle } in links {
            self.line("link", name);
            self.length("settle", *settle);
        }
        for instance in instances {
            self.instance(instance);
        }
        for SyncGroup { name, members } in sync_groups {
            self.line("sync", name);
            self.lines("member", members.iter().map(|m| m.0));
        }
        // `Debug` is stable enough here: hosts that run different releases differ by their version already.
        self.lines("check", checks.iter().map(|c| format!("{c:?}")));
        self.lines("hook", hooks.iter().map(|h| format!("{h:?}")));
        if !replicates.is_empty() {
            self.line("replicate-port", replicate_port);
        }
        self.lines("replicate", replicates.iter().map(|set| format!("{set:?}")));
        self.lines("listen", listen);
    }

    fn instance(&mut self, instance: &Instance) {
        let Instance {
            name,
            key: _,
            vrid,
            link,
            version,
            addresses,
            unadvertised,
            priorities,
            priority,
            interval,
            preempt,
            preempt_delay,
            hold_down,
            accept,
            virtual_mac,
            claim,
            transport,
            source,
            checksum,
            auth,
            lease,
            stale_holder_wait,
            on_conflict,
            shared_fate,
            prefix_route,
            targets,
            routes,
            rules,
            strict,
            standby,
            standbys: _,
            checks,
            flap,
        } = instance;
        self.line("instance", name);
        self.line("vrid", vrid);
        self.line("link", link.0);
        self.line("version", version.get());
        self.lines("address", addresses);
        self.lines("unadvertised", unadvertised);
        // 0 cannot be configured: it stands for a host that does not take part.
        self.lines("priority-of", priorities.iter().map(|p| p.map_or(0, |p| p.get())));
        self.line("priority", priority);
        self.line("advert-interval", interval.centis());
        self.line("preempt", preempt);
        self.length("preempt-delay", *preempt_delay);
        self.length("hold-down", *hold_down);
        self.line("accept", accept);
        self.line("virtual-mac", virtual_mac);
        self.line(
            "claim",
            match claim {
                Claim::Address => "address",
                Claim::Route => "route",
            },
        );
        match transport {
            Transport::Multicast => self.line("transport", "multicast"),
            Transport::Unicast(peers) => self.lines("unicast-peer", peers),
        }
        self.lines("source", source.iter().flatten());
        self.line(
            "checksum",
            match checksum {
                ChecksumFlavour::Rfc9568 => "rfc9568",
                ChecksumFlavour::Rfc5798 => "rfc5798",
            },
        );
        self.auth(auth);
        self.line("lease", lease);
        self.line("stale-holder-wait", stale_holder_wait);
        self.line(
            "on-conflict",
            match on_conflict {
                OnConflict::Alarm => "alarm",
                OnConflict::Refuse => "refuse",
            },
        );
        self.line("shared-fate", shared_fate);
        self.line("prefix-route", prefix_route);
        self.lines("target", targets);
        for VirtualRoute { to, via, src, table, metric } in routes {
            self.line("route", to);
            self.lines("via", via);
            self.lines("src", src);
            self.line("table", table);
            self.line("metric", metric);
        }
        for VirtualRule { family, from, to, table, preference } in rules {
            self.line("rule", family);
            self.lines("from", from);
            self.lines("to", to);
            self.line("table", table);
            self.line("preference", preference);
        }
        self.line("strict", strict);
        self.line("standby", format_args!("{standby:?}"));
        self.lines("uses-check", checks.iter().map(|c| c.0));
        self.line("flap", format_args!("{flap:?}"));
    }

    fn auth(&mut self, auth: &Auth) {
        match auth {
            Auth::None => self.line("auth", "none"),
            Auth::SimpleText(password) => {
                self.line("simple-text", u64::from_be_bytes(*password));
            }
            Auth::Hmac(HmacAuth { mode, keys, active_key, window }) => {
                self.line(
                    "hmac",
                    match mode {
                        HmacMode::ReceiveOnly => "receive-only",
                        HmacMode::Permissive => "permissive",
                        HmacMode::Enforce => "enforce",
                    },
                );
                for (id, file) in keys {
                    self.line("key", id);
                    self.path("file", file);
                }
                self.line("active-key", active_key);
                self.lines("window", window.map(|w| w.as_nanos()));
            }
        }
    }
}
