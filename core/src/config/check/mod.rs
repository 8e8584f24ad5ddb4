//! What values mean together: everything that can be proved from the file alone (DESIGN section 6).
//!
//! Called by `config::load` after reading, whether or not that found errors, so that one run reports as
//! much as possible. It changes nothing. The verdict is about the whole file, hence the same on each
//! host.

mod addresses;
mod agreement;
mod capacity;
mod cluster;
mod dependencies;
mod groups;
mod health;
mod instance;
mod priority;
mod replicate;
mod routes;
mod standby;
mod telemetry;
mod transport;
mod weights;

use super::diagnostic::Findings;
use super::schema::File;
use addresses::Claims;

/// Reports everything that is wrong with `file` as a whole.
pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    cluster::check(file, findings);
    let claims = Claims::collect(file, findings);
    for (host, instances) in file.by_host() {
        for decl in instances {
            instance::check(decl, file.has_heartbeats(), findings);
            addresses::check(decl, &claims, file, findings);
            transport::check(decl, host, &claims, findings);
            routes::check(decl, &claims, findings);
        }
        instance::check_vrids(instances, findings);
        routes::check_unique(instances, findings);
    }
    for name in &file.instance_names {
        let views = file.views_of(&name.value);
        priority::check(file, &views, findings);
        agreement::check(&views, findings);
        standby::check(&views, findings);
    }
    groups::check(file, findings);
    health::check(file, &claims, findings);
    dependencies::check(file, findings);
    weights::check(file, findings);
    capacity::check(file, findings);
    telemetry::check(file, findings);
    replicate::check(file, findings);
}
