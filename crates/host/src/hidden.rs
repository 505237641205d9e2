//! A question whose answer is typed at the terminal without being shown.
//!
//! However it ends, the terminal is as it was before: also after Ctrl-C, which is passed on as the
//! signal only then. The question is asked once nothing typed is shown any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use secrecy::zeroize::Zeroizing;

/// More octets than any answer has, so that one that is too long is noticed.
const LIMIT_OCTETS: usize = (64 << 10) + 3;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// Asks at this process's terminal, whatever standard input is.
///
/// # Errors
/// There is no terminal; `UnexpectedEof` and `Interrupted` where nobody answered.
pub(crate) fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let answer = ask_at(&terminal, question);
    if let Err(problem) = &answer
        && problem.kind() == io::ErrorKind::Interrupted
    {
        // Most commands end by it. Where somebody listens, the error says the same.
        kill_process(getpid(), Signal::INT)?;
    }
    answer
}

fn ask_at(mut terminal: &File, question: &str) -> io::Result<Zeroizing<String>> {
    let answer = {
        let _modes = Modes::unseen(terminal)?;
        terminal.write_all(question.as_bytes())?;
        let answer = line(terminal);
        terminal.write_all(b"\r\n")?;
        answer?
    };
    let text = std::str::from_utf8(&answer).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What is typed until the line ends.
fn line(mut terminal: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a growing buffer leaves copies behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(LIMIT_OCTETS));
    let mut next = || {
        let mut octet = [0];
        terminal.read_exact(&mut octet).map(|()| octet[0])
    };
    loop {
        match next()? {
            b'\r' | b'\n' => return Ok(typed),
            CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_D if typed.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            CTRL_U => typed.clear(),
            // A character may have several octets.
            BACKSPACE | DELETE => while typed.pop().is_some_and(|octet| octet & 0xc0 == 0x80) {},
            // An arrow key and its like: ESC [ … letter.
            ESCAPE => {
                if matches!(next()?, b'[' | b'O') {
                    while !(b'@'..=b'~').contains(&next()?) {}
                }
            }
            control if control.is_ascii_control() => {}
            octet if typed.len() < LIMIT_OCTETS => typed.push(octet),
            _ => {}
        }
    }
}

/// The terminal's modes, until they are put back.
struct Modes<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Modes<'t> {
    /// From now on nothing typed is shown, and Ctrl-C is a character like others.
    fn unseen(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut modes = before.clone();
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Now, &modes)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Modes<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A terminal, and the keyboard and screen in front of it.
    fn terminal() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let front = openpt(flags).unwrap();
        grantpt(&front).unwrap();
        unlockpt(&front).unwrap();
        let name = ptsname(&front, Vec::new()).unwrap();
        let opened = rustix::fs::open(
            name.as_c_str(),
            OFlags::RDWR | OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        );
        (File::from(opened.unwrap()), File::from(front))
    }

    fn typing(keys: &[u8]) -> (io::Result<Zeroizing<String>>, String) {
        let (terminal, mut front) = terminal();
        let before = tcgetattr(&terminal).unwrap();
        // As if typed ahead: the terminal holds it until it is read.
        let mut unbuffered = before.clone();
        unbuffered
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Now, &unbuffered).unwrap();
        front.write_all(keys).unwrap();
        let answer = ask_at(&terminal, "Value: ");
        let after = tcgetattr(&terminal).unwrap();
        assert_eq!(after.local_modes, unbuffered.local_modes);
        let mut screen = vec![0; 1 << 12];
        let shown = front.read(&mut screen).unwrap();
        screen.truncate(shown);
        (answer, String::from_utf8(screen).unwrap())
    }

    #[test]
    fn what_is_typed_is_read_and_not_shown() {
        for (keys, expected) in [
            (&b"hunter2\r"[..], "hunter2"),
            (b"hunter2\n", "hunter2"),
            (b"\r", ""),
            (b"wrong\x15hunter2\r", "hunter2"),
            (b"hunterr\x7f2\r", "hunter2"),
            (b"\x7f\x7fa\x1b[A\x1b[3~\x1bOPb\x04\t\r", "ab"),
            ("sch\u{f6}\x7f\u{f6}n\r".as_bytes(), "sch\u{f6}n"),
        ] {
            let (answer, screen) = typing(keys);
            assert_eq!(answer.unwrap().as_str(), expected);
            assert_eq!(screen.trim_end(), "Value:", "{expected}");
        }
    }

    #[test]
    fn who_does_not_answer_leaves_the_terminal_as_it_was() {
        for (keys, expected) in [
            (&b"hun\x03"[..], io::ErrorKind::Interrupted),
            (b"\x04", io::ErrorKind::UnexpectedEof),
            (b"\xff\r", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(typing(keys).0.unwrap_err().kind(), expected);
        }
    }
}
