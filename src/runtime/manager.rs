//! What the service manager means by SIGTERM: the end, or a restart (DESIGN 5.5, 5.7).
//!
//! Asked once, by the main thread, over the system bus. systemd sends the same signal for both; the job of the unit
//! tells. Where nobody answers at once it is the end.

use std::fmt::Display;
use std::time::Duration;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, connection};

/// Longer it does not wait: an answer takes a few milliseconds, on a machine that is busy a hundred, and without one an
/// owner that is only restarted hands over.
const PATIENCE: Duration = Duration::from_millis(500);
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Is the unit of this process about to be started again after it ended?
pub(super) async fn wants_restart() -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    answer(async { restarts(&connection::Builder::system()?.build().await?).await }).await
}

/// What `asked` says, if it does in time.
async fn answer<E: Display>(asked: impl Future<Output = Result<bool, E>>) -> bool {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(restart)) => restart,
        Ok(Err(error)) => {
            tracing::debug!("systemd cannot be asked what the signal means: {error}");
            false
        }
        Err(_) => {
            tracing::warn!(
                "systemd has not said within {PATIENCE:?} whether this is a restart: taken for a stop"
            );
            false
        }
    }
}

async fn restarts(bus: &Connection) -> zbus::Result<bool> {
    let get = async |path: OwnedObjectPath, interface: &str, property: &str| {
        let properties = Some("org.freedesktop.DBus.Properties");
        let answer =
            bus.call_method(Some(SYSTEMD), path, properties, "Get", &(interface, property)).await?;
        answer.body().deserialize::<OwnedValue>()
    };
    // 0: whoever asks.
    let manager = Some("org.freedesktop.systemd1.Manager");
    let path = "/org/freedesktop/systemd1";
    let unit = bus.call_method(Some(SYSTEMD), path, manager, "GetUnitByPID", &0_u32).await?;
    let unit = unit.body().deserialize::<OwnedObjectPath>()?;
    let job = get(unit, "org.freedesktop.systemd1.Unit", "Job").await?;
    let (number, job) = <(u32, OwnedObjectPath)>::try_from(job)?;
    if number == 0 {
        return Ok(false);
    }
    let kind = get(job, "org.freedesktop.systemd1.Job", "JobType").await?;
    Ok(matches!(String::try_from(kind)?.as_str(), "restart" | "try-restart"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_answer_of_a_busy_machine_is_waited_for_and_none_is_a_stop() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let says = async |after, answer: Result<bool, &'static str>| {
                tokio::time::sleep(Duration::from_millis(after)).await;
                answer
            };
            assert!(answer(says(250, Ok(true))).await, "a restart keeps the address");
            assert!(!answer(says(1, Ok(false))).await);
            assert!(!answer(says(1, Err("no bus"))).await);
            let never = answer(std::future::pending::<Result<bool, &str>>());
            let waited = tokio::time::timeout(Duration::from_secs(10), never).await;
            assert_eq!(waited, Ok(false), "the end of the process waits for nobody");
        });
    }
}
