//! Who hands in mail: a user of this machine, as the kernel names who is at the other end.
//!
//! Names are looked up in `/etc/passwd` and `/etc/group`. Users whom only a directory service
//! knows can be named by their number.

use std::fmt;
use std::fs;
use std::path::Path;

use postrider_config::SendmailSettings;
use rustix::process::{getegid, geteuid};

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    uid: u32,
    gid: u32,
    name: Option<String>,
}

/// As a message's origin.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sendmail uid {}", self.uid)?;
        match &self.name {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

impl Peer {
    /// Whoever runs this process.
    pub(crate) fn own() -> Self {
        Self::new(geteuid().as_raw(), getegid().as_raw())
    }

    /// The user with these numbers.
    pub(crate) fn new(uid: u32, gid: u32) -> Self {
        let name = Database::of_machine().user(uid);
        Self { uid, gid, name }
    }

    /// Their number.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Root, or the daemon's own user.
    pub(crate) fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    /// Whether they may hand in mail.
    pub(crate) fn is_welcome(&self, settings: &SendmailSettings) -> bool {
        self.is_trusted() || self.is_among(settings, &Database::of_machine())
    }

    fn is_among(&self, settings: &SendmailSettings, database: &Database) -> bool {
        let number = self.uid.to_string();
        let is_named = |name: &String| Some(name) == self.name.as_ref() || *name == number;
        settings.users.iter().any(is_named)
            || settings
                .groups
                .iter()
                .any(|group| database.is_member(self, group))
    }
}

/// `/etc/passwd` and `/etc/group` as they are now; empty where they cannot be read.
struct Database {
    passwd: String,
    group: String,
}

impl Database {
    fn of_machine() -> Self {
        Self::in_directory(Path::new("/etc"))
    }

    fn in_directory(directory: &Path) -> Self {
        let read = |name| {
            let octets = fs::read(directory.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&octets).into_owned()
        };
        Self {
            passwd: read("passwd"),
            group: read("group"),
        }
    }

    /// `name:password:uid:…`
    fn user(&self, uid: u32) -> Option<String> {
        let uid = uid.to_string();
        let mut users = self.passwd.lines().map(|line| line.split(':'));
        users.find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }

    /// `name:password:gid:member,member`
    fn is_member(&self, peer: &Peer, group: &str) -> bool {
        self.group.lines().any(|line| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let gid = fields.nth(1).unwrap_or_default();
            if name != group && gid != group {
                return false;
            }
            let mut members = fields.next().unwrap_or_default().split(',');
            gid == peer.gid.to_string()
                || members.any(|member| Some(member) == peer.name.as_deref())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_welcome_who_are_named_or_in_a_named_group() {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path();
        fs::write(
            etc.join("passwd"),
            "root:x:0:0::/root:/bin/sh\nbroken\nwww-data:x:33:33::/var/www:/bin/sh\n\
             ann:x:1000:1000::/home/ann:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            etc.join("group"),
            "www-data:x:33:\nmail:x:8:bob,ann\nstaff:x:50:ann2\nbroken\nann:x:1000:\n",
        )
        .unwrap();
        let database = Database::in_directory(etc);
        let peer = |uid, gid| Peer {
            uid,
            gid,
            name: database.user(uid),
        };
        let (web, ann, other) = (peer(33, 33), peer(1000, 1000), peer(4711, 1000));
        assert_eq!(web.to_string(), "sendmail uid 33 (www-data)");
        assert_eq!(other.to_string(), "sendmail uid 4711");

        let welcome = |users: &[&str], groups: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let settings = SendmailSettings {
                users: list(users),
                groups: list(groups),
                ..SendmailSettings::default()
            };
            [&web, &ann, &other].map(|peer| peer.is_among(&settings, &database))
        };
        assert_eq!(welcome(&[], &[]), [false, false, false]);
        assert_eq!(welcome(&["www-data"], &[]), [true, false, false]);
        assert_eq!(welcome(&["4711"], &[]), [false, false, true]);
        assert_eq!(welcome(&[], &["mail"]), [false, true, false]);
        assert_eq!(welcome(&[], &["ann"]), [false, true, true]);
        assert_eq!(
            welcome(&["", "x"], &["staff", "", "broken"]),
            [false, false, false]
        );
    }

    #[test]
    fn without_the_files_only_numbers_count() {
        let nowhere = Database::in_directory(Path::new("/nonexistent"));
        assert_eq!(nowhere.user(0), None);
    }
}
