//! Has this process the rights that the agent cannot do without?
//!
//! Called once at start, before anything is opened, so that the error names the right and the fix
//! instead of the first system call that failed.

use caps::{CapSet, Capability};

/// A right that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{missing} missing: start vipd by its unit (systemctl start vipd) or with sudo, or give the \
     binary the right once (sudo setcap cap_net_admin,cap_net_raw=ep $(command -v vipd)); \
     `vipd lab` needs no rights"
)]
pub struct Missing {
    missing: String,
}

/// Checks for `CAP_NET_ADMIN` (addresses, devices) and `CAP_NET_RAW` (adverts, announcements) in the
/// effective set, that is, for the user namespace of the process.
///
/// # Errors
/// When one of them is missing.
pub fn check() -> Result<(), Missing> {
    let absent: Vec<String> = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW]
        .into_iter()
        .filter(|c| !caps::has_cap(None, CapSet::Effective, *c).unwrap_or(false))
        .map(|c| c.to_string())
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(Missing {
        missing: format!(
            "{} {}",
            absent.join(" and "),
            if absent.len() == 1 { "is" } else { "are" }
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_right_and_the_ways_out() {
        let text = Missing { missing: "CAP_NET_RAW is".into() }.to_string();
        for part in ["CAP_NET_RAW is missing", "sudo", "setcap", "systemctl", "vipd lab"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
