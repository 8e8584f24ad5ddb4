//! `unit`: what systemd says of a unit, over the system bus.
//!
//! One question per run over one connection for all checks, instead of a `systemctl` per run: 45 checks a second would
//! be 45 processes a second. Needs a bus daemon; where there is none, or systemd does not answer, nothing is known.

use super::outcome::Outcome;
use super::task::Measure;
use std::sync::Arc;
use tokio::sync::Mutex;
use vipd_core::engine::io::Verdict;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, Error, connection};

/// Name, description, load, active and sub state, followed unit, path, and the job: number, type, path.
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// The connection that all checks share.
#[derive(Debug, Default)]
pub(super) struct Bus {
    /// `None`: the system's bus.
    address: Option<String>,
    kept: Mutex<Option<Connection>>,
}

impl Bus {
    async fn connection(&self) -> Result<Connection, Error> {
        let mut kept = self.kept.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let builder = match &self.address {
            Some(address) => connection::Builder::address(address.as_str())?,
            None => connection::Builder::system()?,
        };
        let connection = builder.build().await?;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    async fn list(&self, unit: &str) -> Result<Vec<Listed>, Error> {
        let connection = self.connection().await?;
        let answer = connection
            .call_method(
                Some("org.freedesktop.systemd1"),
                "/org/freedesktop/systemd1",
                Some("org.freedesktop.systemd1.Manager"),
                "ListUnitsByNames",
                &(vec![unit],),
            )
            .await;
        match answer {
            Ok(answer) => answer.body().deserialize(),
            Err(e) => {
                // A "no" needs no new connection; anything else may be a bus that was restarted.
                if !matches!(e, Error::MethodError(..)) {
                    *self.kept.lock().await = None;
                }
                Err(e)
            }
        }
    }
}

/// `unit = "nginx.service"`.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: Arc<str>,
    pub(super) bus: Arc<Bus>,
}

impl Measure for Unit {
    // Systemd or the bus is silent, not the unit.
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let what = format!("unit {}", self.name);
        let units = match self.bus.list(&self.name).await {
            Ok(units) => units,
            Err(e) => return Outcome::unknown(format!("{what}: systemd cannot be asked: {e}")),
        };
        let Some((_, _, load, active, sub, ..)) = units.into_iter().next() else {
            return Outcome::unknown(format!("{what}: systemd says nothing of it"));
        };
        match active.as_str() {
            // It serves while it reads its configuration anew.
            "active" | "reloading" | "refreshing" => {
                Outcome::pass(format!("{what}: {active} ({sub})"))
            }
            _ if load != "loaded" => Outcome::fail(format!("{what}: {active}, {load}")),
            _ => Outcome::fail(format!("{what}: {active} ({sub})")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::path::PathBuf;
    use tokio::net::UnixListener;

    struct Daemon;

    #[zbus::interface(name = "org.freedesktop.DBus")]
    impl Daemon {
        fn hello(&self) -> String {
            ":1.7".into()
        }
    }

    struct Manager;

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    impl Manager {
        fn list_units_by_names(&self, names: Vec<String>) -> zbus::fdo::Result<Vec<Listed>> {
            let path = || OwnedObjectPath::try_from("/x").unwrap();
            let unit = |name: &str, load: &str, active: &str, sub: &str| {
                let [name, load, active, sub] = [name, load, active, sub].map(str::to_owned);
                (
                    name,
                    String::new(),
                    load,
                    active,
                    sub,
                    String::new(),
                    path(),
                    0,
                    String::new(),
                    path(),
                )
            };
            names
                .iter()
                .map(|name| match &**name {
                    "a.service" => Ok(unit(name, "loaded", "active", "running")),
                    "r.service" => Ok(unit(name, "loaded", "reloading", "reload")),
                    "f.service" => Ok(unit(name, "loaded", "failed", "failed")),
                    "s.service" => Ok(unit(name, "loaded", "activating", "auto-restart")),
                    "n.service" => Ok(unit(name, "not-found", "inactive", "dead")),
                    _ => Err(zbus::fdo::Error::InvalidArgs("bad name".into())),
                })
                .collect()
        }
    }

    /// A bus with nobody on it but systemd, for so many connections.
    fn serve(path: PathBuf, connections: usize) {
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..connections {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = connection::Builder::unix_stream(stream)
                    .server(zbus::Guid::generate())
                    .unwrap()
                    .p2p()
                    .serve_at("/org/freedesktop/DBus", Daemon)
                    .unwrap()
                    .serve_at("/org/freedesktop/systemd1", Manager)
                    .unwrap();
                kept.push(connection.build().await.unwrap());
            }
            std::future::pending::<()>().await;
        });
    }

    #[tokio::test]
    async fn systemd_is_asked_over_one_connection() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("bus");
        let address = Some(format!("unix:path={}", socket.display()));
        let bus = Arc::new(Bus { address, kept: Mutex::default() });
        let unit = |name: &str| Unit { name: name.into(), bus: Arc::clone(&bus) };
        let silent = unit("a.service").run().await;
        assert_eq!(silent.verdict, Verdict::Unknown, "{}", silent.detail);
        serve(socket, 1);
        for (name, outcome) in [
            ("a.service", Outcome::pass("unit a.service: active (running)")),
            ("r.service", Outcome::pass("unit r.service: reloading (reload)")),
            ("f.service", Outcome::fail("unit f.service: failed (failed)")),
            ("s.service", Outcome::fail("unit s.service: activating (auto-restart)")),
            ("n.service", Outcome::fail("unit n.service: inactive, not-found")),
        ] {
            assert_eq!(unit(name).run().await, outcome);
        }
        let bad = unit("/../").run().await;
        assert_eq!(bad.verdict, Verdict::Unknown);
        assert!(bad.detail.contains("bad name"), "{}", bad.detail);
        assert_eq!(unit("a.service").run().await.verdict, Verdict::Pass, "the same connection");
    }
}
