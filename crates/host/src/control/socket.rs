//! The socket file: made so that at no moment anybody else can connect, and one daemon's only.
//!
//! A lock beside it says whether a daemon is alive. Who holds it may replace what a dead one left
//! behind; the socket is bound in a directory of its own, given its mode there, and moved into
//! place.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::{Extension, Router};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

use super::http::Door;
use crate::failure::Failure;
use crate::sendmail::door::Visitor;

/// A daemon's own socket. It is removed when this is dropped.
#[derive(Debug)]
pub struct ControlListener(SocketFile);

/// The control socket: for its user.
const CONTROL: Purpose = Purpose {
    name: "the control socket",
    setting: "serve.socket",
    mode: 0o600,
    directory_mode: 0o700,
};

impl ControlListener {
    /// Makes the socket, in place of one that a dead daemon left behind. The directory is made,
    /// for this user only, if it is not there.
    ///
    /// # Errors
    /// Another daemon has it; the path is too long for a socket; something else is in its place;
    /// others can write to its directory.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        SocketFile::bind(path, CONTROL).map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Door for ControlListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let stream = self.0.accept().await?;
        let peer = stream.peer_cred()?.uid();
        if peer == geteuid().as_raw() || peer == 0 {
            return Ok(Some(stream));
        }
        tracing::warn!(
            user = peer,
            "another user was turned away at the control socket"
        );
        Ok(None)
    }

    fn router(&self, router: &Router, stream: &UnixStream) -> io::Result<Router> {
        Visitor::of(stream, None).map(|visitor| router.clone().layer(Extension(visitor)))
    }
}

/// What a socket is for, and who may connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// As errors call it.
    pub(crate) name: &'static str,
    /// The setting that has its path.
    pub(crate) setting: &'static str,
    /// Its mode.
    pub(crate) mode: u32,
    /// Its directory's, if that has to be made.
    pub(crate) directory_mode: u32,
}

/// A socket's file. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Locked for as long as the daemon lives.
    _alive: File,
}

impl SocketFile {
    /// Makes it, as [`ControlListener::bind`] says.
    pub(crate) fn bind(path: &Path, purpose: Purpose) -> Result<Self, Failure> {
        purpose.check_length(path)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        purpose.prepare(directory)?;
        let alive = purpose.lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(purpose
                    .unusable(path, "something else is in its place")
                    .with_remedy(format!(
                        "move it away, or set {} to another path",
                        purpose.setting
                    )));
            }
            // Nobody has the lock, so it is not a daemon's; still it may be somebody's.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(purpose
                    .unusable(path, "another program listens there")
                    .with_remedy(format!("set {} to another path", purpose.setting)));
            }
            Ok(_) => {}
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {}
            Err(problem) => return Err(purpose.unusable(path, &problem.to_string())),
        }
        let listener = make(path, purpose.mode)
            .map_err(|problem| purpose.unusable(path, &format!("it cannot be made: {problem}")))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _alive: alive,
        })
    }

    /// The next who connects.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The user at the other end of a connection.
pub(super) fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    let own = geteuid();
    // Root named the path; whoever may listen there does so at root's word.
    Ok(own.is_root() || stream.peer_cred()?.uid() == own.as_raw())
}

impl Purpose {
    /// A socket's path has room for some hundred octets only.
    fn check_length(self, path: &Path) -> Result<(), Failure> {
        let longest = [path.to_owned(), workshop(path).join("s")];
        for path in &longest {
            if SocketAddr::from_pathname(path).is_err() {
                let octets = path.as_os_str().len();
                let name = self.name;
                return Err(Failure::new(
                    "config.socket",
                    format!("the path of {name} is too long for the system ({octets} octets)"),
                )
                .at(path.display().to_string())
                .with_remedy(format!(
                    "set {} to a shorter path, such as one in /run/postrider",
                    self.setting
                )));
            }
        }
        Ok(())
    }

    /// The directory, made if it is not there, and writable to nobody else.
    fn prepare(self, directory: &Path) -> Result<(), Failure> {
        let made = || {
            if directory.exists() {
                return Ok(());
            }
            DirBuilder::new()
                .recursive(true)
                .mode(self.directory_mode)
                .create(directory)?;
            // Others may go through it, whatever the process's own umask keeps from them.
            let mode = fs::Permissions::from_mode(self.directory_mode);
            fs::set_permissions(directory, mode)
        };
        made().map_err(|problem| {
            let why = format!("its directory cannot be made: {problem}");
            self.unusable(directory, &why)
        })?;
        let found = fs::metadata(directory)
            .map_err(|problem| self.unusable(directory, &format!("its directory: {problem}")))?;
        let own = geteuid().as_raw();
        let others_write = found.mode() & 0o022 != 0;
        if others_write || (found.uid() != own && found.uid() != 0) {
            let failure = self.unusable(directory, "others can write to its directory");
            return Err(failure.with_remedy(format!(
                "chmod {:o} '{}', or set {} to a path elsewhere",
                self.directory_mode,
                directory.display(),
                self.setting
            )));
        }
        Ok(())
    }

    /// The lock that says a daemon is alive. It stays when that ends: a lock file that comes and
    /// goes can be held by two.
    fn lock(self, path: &Path) -> Result<File, Failure> {
        let beside = with_suffix(path, ".lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&beside)
            .map_err(|problem| {
                self.unusable(path, &format!("its lock cannot be opened: {problem}"))
            })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                "serve.running",
                format!("another `postrider serve` answers on {}", self.its_kind()),
            )
            .at(path.display().to_string())
            .with_remedy(format!(
                "stop it first, or give this one another --state-dir or {}; `postrider status` \
                 tells which it is",
                self.setting
            ))),
            Err(TryLockError::Error(problem)) => {
                Err(self.unusable(path, &format!("its lock cannot be had: {problem}")))
            }
        }
    }

    /// `this control socket`
    fn its_kind(self) -> String {
        self.name.replacen("the", "this", 1)
    }

    fn unusable(self, path: &Path, why: &str) -> Failure {
        Failure::new("config.socket", format!("{}: {why}", self.name))
            .at(path.display().to_string())
    }
}

/// Binds it where nobody else looks, and moves it into place.
fn make(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let workshop = workshop(path);
    // Ours alone, for the lock is held; what is left of one that was killed goes.
    match fs::remove_dir_all(&workshop) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => DirBuilder::new().mode(0o700).create(&workshop)?,
    }
    let inside = workshop.join("s");
    let listener = UnixListener::bind(&inside)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(mode))?;
    fs::rename(&inside, path)?;
    fs::remove_dir(&workshop)?;
    Ok(listener)
}

/// The directory that a socket is made in: short, for a socket's path may not be long.
fn workshop(path: &Path) -> PathBuf {
    with_suffix(path, "~")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_its_users_alone_and_goes_with_its_daemon() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run/control.sock");
        let listener = ControlListener::bind(&path).unwrap();

        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(!workshop(&path).exists());
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(is_trusted(&connected.unwrap()).unwrap());
        assert!(accepted.unwrap().is_some());

        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_replaced_and_a_live_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::create_dir(workshop(&path)).unwrap();

        let first = ControlListener::bind(&path).unwrap();
        let failure = ControlListener::bind(&path).unwrap_err();
        assert_eq!(failure.code, "serve.running");
        assert!(UnixStream::connect(&path).await.is_ok());

        drop(first);
        ControlListener::bind(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_daemons_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert_eq!(
            ControlListener::bind(&file).unwrap_err().code,
            "config.socket"
        );
        assert_eq!(fs::read(&file).unwrap(), b"precious");

        let taken = home.path().join("taken");
        let _other = std::os::unix::net::UnixListener::bind(&taken).unwrap();
        assert_eq!(
            ControlListener::bind(&taken).unwrap_err().code,
            "config.socket"
        );
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_or_open_to_others_is_said() {
        let home = tempfile::tempdir().unwrap();
        let long = home.path().join("x".repeat(100)).join("control.sock");
        let failure = ControlListener::bind(&long).unwrap_err();
        assert!(failure.message.contains("too long"), "{failure}");

        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let failure = ControlListener::bind(&open.join("control.sock")).unwrap_err();
        assert!(failure.message.contains("others can write"), "{failure}");
    }
}
