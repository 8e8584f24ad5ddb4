//! Where metrics are served: reachable for this host at any time, and for others only if that is meant.

use crate::config::diagnostic::Findings;
use crate::config::model::Listen;
use crate::config::schema::File;

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    for ((host, instances), decl) in file.by_host().zip(&file.telemetry) {
        let Some(listen) = &decl.listen else { continue };
        let Listen::Tcp(at) = listen.value else { continue };
        if let Some(instance) = instances.iter().find(|instance| instance.claims(at.ip())) {
            findings.error(
                &listen.span,
                format!(
                    "listen on {} is on an address of {}, which {} has only while it owns it",
                    at, instance.subject, host.name.value
                ),
                format!("write \"127.0.0.1:{}\", or an address that the host keeps", at.port()),
            );
        } else if !at.ip().is_loopback() {
            findings.warning(
                &listen.span,
                format!("whoever reaches {at} reads the metrics: there is neither password nor TLS"),
                format!(
                    "let a firewall admit the monitoring host alone, or write \"127.0.0.1:{}\" and put a proxy before it",
                    at.port()
                ),
            );
        }
    }
}
