//! What the service manager means by SIGTERM: the end, or a restart (DESIGN 5.5, 5.7).
//!
//! Asked once, by the main thread, over the system bus. systemd sends the same signal for both; the job of the unit
//! tells. Where nobody answers at once it is the end.

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
    let asked = async { restarts(&connection::Builder::system()?.build().await?).await };
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
