//! What values mean together.

use super::diagnostic::Findings;
use super::schema::File;

pub(super) fn check(_file: &File, _findings: &mut Findings<'_>) {}
