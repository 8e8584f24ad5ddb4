//! Key files: read once at start, refused when anybody but the owner could read or change them.
//!
//! Called by the start sequence. It never prints a key, not even in an error.

use nix::unistd::Uid;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vipd_core::config::model::{Auth, Model};
use vipd_core::engine::Secrets;
use vipd_core::wire::auth::{self, KeyRing};

/// Longest file: the longest key in hex, with room for blanks around it.
const LONGEST_FILE: u64 = 4096;

/// Why a key file is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Is not there.
    #[error(
        "key file {path} does not exist; `vipd keygen {path}` makes one, for all hosts of the group"
    )]
    Absent {
        /// Which file.
        path: PathBuf,
    },
    /// Cannot be read.
    #[error(
        "key file {path}: {error}; it must belong to the user that runs vipd (under systemd: chown vipd {path})"
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// Group or others have rights on it.
    #[error(
        "key file {path} has mode {mode:04o}: others could read or change it; run: chmod 600 {path}"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Permission bits as found.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("key file {path} belongs to user {uid}, who could change it; run: chown root {path}")]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Owner as found.
        uid: u32,
    },
    /// A folder, a device, a pipe.
    #[error("key file {path} is not a regular file")]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Not a key.
    #[error("key file {path}: {error}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: auth::KeyError,
    },
}

/// The user of the shipped systemd unit, where it exists: `vipd keygen`, run by root, gives it the key, and root's
/// `vipd cleanup` reads it.
pub fn service_user() -> Option<Uid> {
    nix::unistd::User::from_name("vipd").ok().flatten().map(|user| user.uid)
}

/// The key in `path`: 32 to 64 octets, written in hex or raw.
///
/// # Errors
/// When it cannot be read, is not a key, or when anybody but root, the service user or this user has rights on it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Absent { path: path.to_owned() },
        _ => KeyError::Read { path: path.to_owned(), error },
    };
    // Opening a pipe would wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(failed)?;
    // Of the open file, so that nothing can be swapped between the look and the read.
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(KeyError::NotAFile { path: path.to_owned() });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    let trusted = [Some(Uid::from_raw(0)), Some(nix::unistd::geteuid()), service_user()];
    if !trusted.contains(&Some(Uid::from_raw(meta.uid()))) {
        return Err(KeyError::Owner { path: path.to_owned(), uid: meta.uid() });
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    auth::parse_key(&bytes).map_err(|error| KeyError::Content { path: path.to_owned(), error })
}

/// The cluster key that `model` names; `None`: it names none.
///
/// # Errors
/// When its file is refused.
pub fn cluster(model: &Model) -> Result<Option<Vec<u8>>, KeyError> {
    model.heartbeat.as_ref().map(|heartbeat| read(&heartbeat.key_file)).transpose()
}

/// Everything secret that `model` names.
///
/// # Errors
/// The first file that is refused.
pub fn secrets(model: &Model) -> Result<Secrets, KeyError> {
    let cluster_key = cluster(model)?;
    let trailers =
        model.instances.iter().map(|instance| ring(&instance.auth)).collect::<Result<_, _>>()?;
    Ok(Secrets { cluster_key, trailers })
}

fn ring(auth: &Auth) -> Result<Option<KeyRing>, KeyError> {
    let Auth::Hmac(hmac) = auth else { return Ok(None) };
    let mut keys = Vec::new();
    let mut last = PathBuf::new();
    for (id, path) in &hmac.keys {
        keys.push((*id, read(path)?));
        last.clone_from(path);
    }
    KeyRing::new(keys, hmac.active_key)
        .map(Some)
        .map_err(|error| KeyError::Content { path: last, error })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A file, gone with the value.
    fn file(content: &[u8], mode: u32) -> tempfile::TempPath {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn reads_hex_and_raw() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F\n";
        let key = read(&file(hex.as_bytes(), 0o600)).unwrap();
        assert_eq!(key, (0..32).collect::<Vec<u8>>());
        let raw: Vec<u8> = (100..150).collect();
        assert_eq!(read(&file(&raw, 0o400)).unwrap(), raw);
    }

    #[test]
    fn refuses_what_others_can_read_or_change_and_names_the_fix() {
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let path = file(&[7; 32], mode);
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains(&format!("chmod 600 {}", path.display())), "{said}");
            assert!(said.contains(&format!("{mode:04o}")), "{said}");
        }
    }

    #[test]
    fn refuses_wrong_lengths_folders_and_absent_files() {
        assert!(matches!(
            read(&file(&[1; 31], 0o600)),
            Err(KeyError::Content { error: auth::KeyError::Length(31), .. })
        ));
        assert!(matches!(
            read(&file(&[1; 65], 0o600)),
            Err(KeyError::Content { error: auth::KeyError::Length(65), .. })
        ));
        assert!(matches!(read(&std::env::temp_dir()), Err(KeyError::NotAFile { .. })));
        let pipe = file(&[], 0o600);
        std::fs::remove_file(&pipe).unwrap();
        nix::unistd::mkfifo(&*pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(
            matches!(read(&pipe), Err(KeyError::NotAFile { .. })),
            "and does not wait for a writer"
        );
        let said = read(Path::new("/nonexistent/cluster.key")).unwrap_err().to_string();
        assert!(said.contains("vipd keygen"), "{said}");
    }
}
