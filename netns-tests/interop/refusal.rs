//! What a peer of another setting refuses.

use libtest_mimic::Trial;

/// All of them.
pub(crate) fn trials() -> Vec<Trial> {
    Vec::new()
}
