//! The octets that get loaded: hashed, and from then on out of anybody's reach.
//!
//! The loader is given `/proc/self/fd/N`, so what it maps is what was checked, whatever the
//! path means by then. A file that is not root's could still be rewritten in place by its
//! owner; it is copied into sealed memory first.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::trust::Trusted;

/// What `dlopen` is to be given.
pub(super) struct Image {
    /// Where the loader finds it.
    pub(super) path: PathBuf,
    /// SHA-256, lower-case hex.
    pub(super) sha256: String,
    /// Kept open: `path` names it.
    pub(super) file: File,
}

impl Image {
    /// The image of the trusted file at `path`.
    #[cfg(target_os = "linux")]
    pub(super) fn of(trusted: Trusted, path: &Path) -> io::Result<Self> {
        let _ = path;
        let mut file = trusted.file;
        if trusted.root_owned {
            let sha256 = hash(&mut file, &mut io::sink())?;
            return Ok(Self::at_descriptor(file, sha256));
        }
        Self::sealed_copy(&mut file)
    }

    /// The image of the trusted file at `path`: the path itself, which every check said
    /// nobody else can change.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(trusted: Trusted, path: &Path) -> io::Result<Self> {
        let mut file = trusted.file;
        let sha256 = hash(&mut file, &mut io::sink())?;
        Ok(Self {
            path: path.to_owned(),
            sha256,
            file,
        })
    }

    /// A copy in memory that nobody, not even we, can write to any more.
    #[cfg(target_os = "linux")]
    fn sealed_copy(file: &mut File) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        use rustix::io::Errno;

        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag and make every memfd executable.
        let memory = match memfd_create("postrider-plugin", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => memfd_create("postrider-plugin", flags),
            other => other,
        }?;
        let mut memory = File::from(memory);
        let sha256 = hash(file, &mut memory)?;
        fcntl_add_seals(
            &memory,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Self::at_descriptor(memory, sha256))
    }

    #[cfg(target_os = "linux")]
    fn at_descriptor(file: File, sha256: String) -> Self {
        use std::os::fd::AsRawFd as _;

        Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            sha256,
            file,
        }
    }
}

/// Copies `from` to `to` from its beginning; returns the SHA-256 of what was copied.
fn hash(from: &mut File, to: &mut dyn io::Write) -> io::Result<String> {
    from.rewind()?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        digest.update(&chunk[..length]);
        to.write_all(&chunk[..length])?;
    }
    let mut hex = String::with_capacity(64);
    for octet in digest.finalize() {
        let _ = write!(hex, "{octet:02x}");
    }
    Ok(hex)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn abc() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        file
    }

    fn trusted(root_owned: bool) -> Trusted {
        Trusted {
            file: abc(),
            root_owned,
        }
    }

    #[test]
    fn a_users_file_is_copied_where_nobody_can_write() {
        let mut image = Image::of(trusted(false), Path::new("/x")).unwrap();

        assert_eq!(image.sha256, ABC);
        assert_eq!(std::fs::read(&image.path).unwrap(), b"abc");
        assert!(image.file.write_all(b"d").is_err());
        assert!(image.file.set_len(0).is_err());
    }

    #[test]
    fn roots_file_is_loaded_as_it_is() {
        let image = Image::of(trusted(true), Path::new("/x")).unwrap();

        assert_eq!(image.sha256, ABC);
        assert_eq!(std::fs::read(&image.path).unwrap(), b"abc");
    }
}
