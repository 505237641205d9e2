//! What old devices get wrong, and a server may let pass.

/// Departures from the standards that are let pass. None by default; each is for a client
/// that cannot be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and an operator sets them one by one"
)]
pub struct Quirks {
    /// Lines may end in a line feed alone. The first line of a session decides how:
    ///
    /// - It ends in CRLF: all commands do, and only CRLF `.` CRLF ends data. Within a body
    ///   a bare line feed ends a line, and is passed on as CRLF.
    /// - It ends in LF: all commands do, only LF `.` LF ends data, and there is no carriage
    ///   return in a body.
    ///
    /// So one sequence ends data in any one session, and a client cannot change which.
    pub bare_lf: bool,
    /// `MAIL FROM: <a@b>` and `RCPT TO: <a@b>`, with spaces behind the colon.
    pub mail_from_space: bool,
    /// `MAIL FROM:a@b` and `RCPT TO:a@b`, without angle brackets.
    pub no_brackets: bool,
    /// What stands between the brackets of `MAIL FROM` need not be a mailbox: a handler gets it
    /// as it is, and refuses it or puts another in its place.
    pub any_sender: bool,
    /// The answers of `AUTH LOGIN` end in NUL, which is dropped.
    pub login_nul: bool,
    /// `AUTH` after `HELO`, where RFC 4954 §4 wants `EHLO`; and `HELO` without a name.
    pub helo_only: bool,
}
