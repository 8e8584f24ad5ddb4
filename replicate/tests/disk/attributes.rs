//! Access lists (POSIX ACLs) of files and folders, as raw attributes: no program has to be installed.

use crate::common::{Host, push, settle, skipped, sync};
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vipd_replicator::testing::Transfer;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// No user or group of that number is named in an entry.
const NOBODY: u32 = u32::MAX;

/// A list as `linux/posix_acl_xattr.h` has it: `rw-` for the owner, `user` in addition, nothing for others.
fn list(user: u32, rights: u16) -> Vec<u8> {
    let mut octets = 2_u32.to_le_bytes().to_vec();
    let entries = [
        (0x01, 6, NOBODY), // owner
        (0x02, rights, user),
        (0x04, 4, NOBODY), // group
        (0x10, 6, NOBODY), // mask
        (0x20, 0, NOBODY), // others
    ];
    for (tag, rights, id) in entries {
        octets.extend(u16::to_le_bytes(tag));
        octets.extend(rights.to_le_bytes());
        octets.extend(id.to_le_bytes());
    }
    octets
}

fn get(host: &Host, path: &str, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = getxattr(host.path(path), name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// Sets a list; `false`: this file system has none.
fn set(host: &Host, path: &str, name: &str, list: &[u8]) -> bool {
    match setxattr(host.path(path), name, list, XattrFlags::empty()) {
        Ok(()) => true,
        Err(error) => {
            skipped(format!("no access lists in {}: {error}", host.path(path).display()));
            false
        }
    }
}

#[test]
fn access_lists_are_the_same_on_the_standby() {
    for atomic in [false, true] {
        let [a, b] =
            ["a", "b"].map(|name| Host::with(name, |c| (c.xattrs, c.atomic) = (true, atomic)));
        a.write("folder/file", "secret");
        a.write("plain", "x");
        let (reads, writes) = (list(1234, 4), list(1234, 6));
        if !set(&a, "folder/file", ACCESS, &reads) || !set(&a, "folder", DEFAULT, &writes) {
            return;
        }
        a.claim(1, 1);
        sync(&a, &b);
        let same = |path: &str| {
            for name in [ACCESS, DEFAULT] {
                assert_eq!(get(&b, path, name), get(&a, path, name), "{path} {name} {atomic}");
            }
        };
        ["folder", "folder/file", "plain"].into_iter().for_each(same);
        assert_eq!(get(&b, "folder/file", ACCESS), Some(reads.clone()));
        assert_eq!(get(&b, "folder", DEFAULT), Some(writes.clone()));
        let mode = fs::metadata(b.path("folder/file")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "the mask of the list shows as the rights of the group");
        // A file that is made where lists are inherited has on the standby what it has on the owner, and no more.
        a.write("folder/inherits", "y");
        fs::write(a.path("folder/bare"), "z").unwrap();
        removexattr(a.path("folder/bare"), ACCESS).unwrap();
        sync(&a, &b);
        assert!(get(&a, "folder/inherits", ACCESS).is_some());
        assert_eq!(get(&b, "folder/bare", ACCESS), None);
        ["folder/inherits", "folder/bare"].into_iter().for_each(same);
        // The list alone changes, and goes: a tree each, and the content stays.
        settle();
        assert!(set(&a, "folder/file", ACCESS, &writes));
        assert!(a.seal().new);
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        assert_eq!(get(&b, "folder/file", ACCESS), Some(writes));
        settle();
        removexattr(a.path("folder/file"), ACCESS).unwrap();
        removexattr(a.path("folder"), DEFAULT).unwrap();
        sync(&a, &b);
        ["folder", "folder/file"].into_iter().for_each(same);
        assert_eq!((get(&b, "folder/file", ACCESS), get(&b, "folder", DEFAULT)), (None, None));
        // What somebody gives himself on a standby is found and taken back.
        settle();
        assert!(set(&b, "plain", ACCESS, &reads));
        assert_eq!(b.set().drift().unwrap(), [crate::common::rel("plain")]);
        a.write("more", "1");
        a.seal();
        push(&a, &b).unwrap();
        same("plain");
        b.assert_clean();
    }
}

#[test]
fn without_the_option_no_list_is_carried() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "x");
    if !set(&a, "file", ACCESS, &list(1234, 4)) {
        return;
    }
    a.claim(1, 1);
    push(&a, &b).unwrap();
    assert_eq!(get(&b, "file", ACCESS), None);
}
