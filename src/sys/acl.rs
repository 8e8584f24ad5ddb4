//! A second group for a file: POSIX access control lists, of which `chmod` knows nothing.
//!
//! Called by the control socket once. Decides nothing.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where the kernel keeps the list (acl(5)); the format is that of linux/posix_acl_xattr.h, version 2.
const NAME: &std::ffi::CStr = c"system.posix_acl_access";
const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;
const READ_WRITE: u16 = 6;

/// Lets owner, group and the group `gid` read and write `path`, and nobody else. Its mode reads 0660 then.
///
/// # Errors
/// `EOPNOTSUPP` when the file system keeps no such lists; `EPERM` when `path` belongs to somebody else.
pub fn share_with_group(path: &Path, gid: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let list = list(gid);
    // SAFETY: both strings end with a zero octet and live until the call returns; the kernel reads exactly
    // `list.len()` octets of `list`.
    let done = unsafe {
        libc::setxattr(path.as_ptr(), NAME.as_ptr(), list.as_ptr().cast(), list.len(), 0)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Owner, group, `gid`, what groups may at most, others: in the order that the kernel wants.
fn list(gid: u32) -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (0x01, READ_WRITE, NOBODY),
        (0x04, READ_WRITE, NOBODY),
        (0x08, READ_WRITE, gid),
        (0x10, READ_WRITE, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_mode_stays_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        match share_with_group(&path, 4242) {
            Ok(()) => {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o7777, 0o660);
            }
            Err(error) => eprintln!("SKIPPED: {} has no access lists: {error}", path.display()),
        }
        std::fs::remove_file(&path).unwrap();
        assert!(share_with_group(&path, 4242).is_err(), "no file");
    }
}
