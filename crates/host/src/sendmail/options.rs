//! The command line of `sendmail`, as programs have written it for forty years.
//!
//! Its own parser: values stick to their options or follow them (`-faddr`, `-f addr`), options
//! share a dash (`-ti`), `-q` has a value or none, and what begins with `-o` is a world of its
//! own. clap knows none of that. As with Postfix the first recipient ends the options, so that
//! nobody who chooses a recipient chooses an option.
//!
//! What other programs of the name do otherwise and what has no meaning here is taken and ignored
//! where mail arrives all the same; what would be missed is refused.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// One message from standard input into the queue.
    Submit,
    /// SMTP on standard input and output (`-bs`).
    Smtp,
    /// The queue's list (`-bp`, or called as `mailq`).
    List,
    /// What waits is tried now (`-q`).
    Flush,
    /// Nothing: aliases are not kept in a database here (`-bi`, or called as `newaliases`).
    Nothing,
    /// The way it is used (`--help`).
    Help,
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) task: Task,
    /// `-t`: recipients are taken from the header, too.
    pub(crate) extract: bool,
    /// Without `-i` or `-oi`: a line with nothing but a dot ends the message.
    pub(crate) dot_ends: bool,
    /// `-f` or `-r`: the envelope's sender; empty is the null reverse-path.
    pub(crate) sender: Option<String>,
    /// `-F`: the name for a `From` that has to be made.
    pub(crate) full_name: Option<String>,
    /// `-N`: when to notify, as RFC 3461 writes it.
    pub(crate) notify: Option<String>,
    /// `-R`: how much of the message comes back.
    pub(crate) ret: Option<String>,
    /// `-V`: an identifier that comes back.
    pub(crate) envelope_id: Option<String>,
    /// `-odi`: where no daemon delivers, this process does before it ends.
    pub(crate) deliver: bool,
    /// `--account`.
    pub(crate) account: Option<String>,
    /// `-C`, `--config`.
    pub(crate) config: Option<PathBuf>,
    /// Each may be a list, or have a name before the address.
    pub(crate) recipients: Vec<String>,
}

impl Options {
    /// What is meant by a program of that name (`sendmail`, `mailq`, `newaliases`).
    fn of(program: &str) -> Self {
        Self {
            task: match program {
                "mailq" => Task::List,
                "newaliases" => Task::Nothing,
                _ => Task::Submit,
            },
            extract: false,
            dot_ends: true,
            sender: None,
            full_name: None,
            notify: None,
            ret: None,
            envelope_id: None,
            deliver: false,
            account: None,
            config: None,
            recipients: Vec::new(),
        }
    }

    /// Reads the command line of a program called `program`, without that name.
    ///
    /// # Errors
    /// An option that is not known, lacks its value, or cannot be followed.
    pub(crate) fn parse(
        program: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let mut options = Self::of(program);
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let text = text(&argument)?;
            match text.strip_prefix('-') {
                Some("-") => break,
                Some(long) if long.starts_with('-') => options.long(&long[1..], &mut rest)?,
                Some(letters) if !letters.is_empty() => options.short(letters, &mut rest)?,
                _ => {
                    options.recipients.push(text.to_owned());
                    break;
                }
            }
        }
        for argument in rest {
            options.recipients.push(text(&argument)?.to_owned());
        }
        options.check()?;
        Ok(options)
    }

    /// What sendmail does not have: Postrider's own.
    fn long(
        &mut self,
        option: &str,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let (name, given) = match option.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (option, None),
        };
        match name {
            "help" => {
                self.task = Task::Help;
                return Ok(());
            }
            "account" | "config" => {}
            _ => return Err(unknown(&format!("--{name}"))),
        }
        let missing = || wrong(format!("--{name} needs a value"));
        let value = given.or_else(|| rest.next()).ok_or_else(missing)?;
        if name == "config" {
            self.config = Some(value.into());
        } else {
            self.account = Some(text(&value)?.to_owned());
        }
        Ok(())
    }

    /// Letters behind one dash: the first that takes a value takes all that follows.
    fn short(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        for (at, letter) in letters.char_indices() {
            let behind = &letters[at + letter.len_utf8()..];
            match letter {
                't' => self.extract = true,
                'i' => self.dot_ends = false,
                'I' => self.task = Task::Nothing,
                // Aliases, receipts, verbosity, gateways: as it is, or of no meaning here.
                'c' | 'G' | 'm' | 'n' | 'U' | 'v' | 'x' => {}
                'q' => return self.flush(behind),
                // A level, and only behind it.
                'd' => return Ok(()),
                'A' | 'B' | 'b' | 'C' | 'e' | 'F' | 'f' | 'h' | 'L' | 'N' | 'O' | 'o' | 'p'
                | 'R' | 'r' | 'V' | 'X' => {
                    let value = if behind.is_empty() {
                        let next = rest.next();
                        next.ok_or_else(|| wrong(format!("-{letter} needs a value")))?
                    } else {
                        behind.into()
                    };
                    return self.valued(letter, &value);
                }
                _ => return Err(unknown(&format!("-{letter}"))),
            }
        }
        Ok(())
    }

    fn valued(&mut self, letter: char, value: &OsStr) -> Result<(), Failure> {
        if letter == 'C' {
            // sendmail's own configuration files are named by programs that know of one only.
            if !is_sendmails(Path::new(value)) {
                self.config = Some(value.into());
            }
            return Ok(());
        }
        let value = text(value)?;
        let owned = || Some(value.to_owned());
        match letter {
            'f' | 'r' => self.sender = owned(),
            'F' => self.full_name = owned(),
            'N' => self.notify = owned(),
            'R' => self.ret = owned(),
            'V' => self.envelope_id = owned(),
            'b' => self.mode(value)?,
            'o' if value == "i" || value == "itrue" => self.dot_ends = false,
            'o' if value == "di" => self.deliver = true,
            'O' => self.named(value),
            'B' if !["7BIT", "8BITMIME"].contains(&value.to_ascii_uppercase().as_str()) => {
                return Err(wrong("-B is followed by 7BIT or 8BITMIME"));
            }
            'X' => {
                return Err(wrong("-X is not supported: there is no log of the traffic")
                    .with_remedy("leave it out, and run `postrider serve` with --log debug"));
            }
            // Which of the two configurations, error modes, hops, tags, protocol, other options.
            _ => {}
        }
        Ok(())
    }

    /// `-O IgnoreDots=true`, as sendmail spells `-i`; others have no meaning here.
    fn named(&mut self, option: &str) {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("IgnoreDots") {
            self.dot_ends &= !value.starts_with(['t', 'T', 'y', 'Y', '1']);
        } else if name.eq_ignore_ascii_case("DeliveryMode") {
            self.deliver = value.starts_with('i');
        }
    }

    fn mode(&mut self, mode: &str) -> Result<(), Failure> {
        self.task = match mode {
            "m" => Task::Submit,
            "s" => Task::Smtp,
            "p" => Task::List,
            // The database of aliases, the status of hosts: nothing is to be done.
            "i" | "h" | "H" => Task::Nothing,
            "d" | "D" | "l" => {
                return Err(wrong(format!("-b{mode} is not supported"))
                    .with_remedy("the daemon is `postrider serve`"));
            }
            _ => {
                return Err(wrong(format!("-b{mode} is not supported"))
                    .with_remedy("use -bm, -bs, -bp, or none"));
            }
        };
        Ok(())
    }

    fn flush(&mut self, which: &str) -> Result<(), Failure> {
        if which.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(
                wrong(format!("-q{which}: there is no interval to set")).with_remedy(
                    "`postrider serve` delivers by itself what is due; for one attempt now, use -q",
                ),
            );
        }
        if !which.is_empty() && which != "f" {
            return Err(wrong(format!("-q{which} is not supported"))
                .with_remedy("use -q, or `postrider queue retry` with a filter"));
        }
        self.task = Task::Flush;
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        if self.task != Task::Submit && self.task != Task::Help {
            if self.extract {
                return Err(wrong(
                    "-t goes with a message only, not with -bs, -bp or -q",
                ));
            }
            if !self.recipients.is_empty() {
                return Err(wrong(
                    "recipients go with a message only, not with -bs, -bp or -q",
                ));
            }
        }
        Ok(())
    }
}

fn is_sendmails(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "cf")
}

fn text(argument: &OsStr) -> Result<&str, Failure> {
    argument.to_str().ok_or_else(|| {
        wrong(format!("an argument is not UTF-8: {}", argument.display())).with_remedy("convert it")
    })
}

fn unknown(option: &str) -> Failure {
    wrong(format!("there is no option {option}"))
        .with_remedy("see `postrider sendmail --help`; a recipient like that goes behind --")
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new("usage.sendmail", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        parse_as("sendmail", line)
    }

    fn parse_as(program: &str, line: &str) -> Result<Options, Failure> {
        let words = line.split_whitespace();
        // What a shell makes of it.
        let words = words.map(|word| OsString::from(word.trim_matches('"')));
        Options::parse(program, words)
    }

    #[test]
    fn programs_are_understood_as_they_write_it() {
        let to = |recipients: &[&str]| Options {
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            ..Options::of("sendmail")
        };
        let undotted = |options: Options| Options {
            dot_ends: false,
            ..options
        };
        let extracting = |options: Options| Options {
            extract: true,
            ..options
        };
        let from = |sender: &str, options: Options| Options {
            sender: Some(sender.to_owned()),
            ..options
        };
        for (line, expected) in [
            // cron, with a name
            (
                "-FCronDaemon -i -B8BITMIME -oem root",
                Options {
                    full_name: Some("CronDaemon".to_owned()),
                    ..undotted(to(&["root"]))
                },
            ),
            // PHP, with its fifth parameter
            (
                "-t -i -fweb@example.org",
                from("web@example.org", extracting(undotted(to(&[])))),
            ),
            // git send-email
            (
                "-i a@example.org b@example.org",
                undotted(to(&["a@example.org", "b@example.org"])),
            ),
            // mutt
            (
                "-oem -oi -f me@example.org -- a@example.org",
                from("me@example.org", undotted(to(&["a@example.org"]))),
            ),
            // letters behind one dash
            ("-tif x@y", from("x@y", extracting(undotted(to(&[]))))),
            // the null reverse-path
            ("-f <> a@b", from("<>", to(&["a@b"]))),
            ("-f \"\" a@b", from("", to(&["a@b"]))),
            ("-r x@y a@b", from("x@y", to(&["a@b"]))),
            // sendmail's long names
            (
                "-O DeliveryMode=b -OIgnoreDots=true -om -o7 -d0.1 -bm a@b",
                undotted(to(&["a@b"])),
            ),
            (
                "-G -U -n -v -m -h 3 -L tag -pESMTP -Am -C /etc/mail/submit.cf a@b",
                to(&["a@b"]),
            ),
            // behind a recipient, and behind --, all are recipients
            ("a@b -t", to(&["a@b", "-t"])),
            ("-- -t -- x", to(&["-t", "--", "x"])),
            ("- x", to(&["-", "x"])),
        ] {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn each_task_has_its_option_and_its_name() {
        for (line, task) in [
            ("", Task::Submit),
            ("-bs", Task::Smtp),
            ("-b s", Task::Smtp),
            ("-bp", Task::List),
            ("-q", Task::Flush),
            ("-qf", Task::Flush),
            ("-vq", Task::Flush),
            ("-bi", Task::Nothing),
            ("-I", Task::Nothing),
            ("-bh", Task::Nothing),
            ("-bp -bm a@b", Task::Submit),
            ("--help", Task::Help),
        ] {
            assert_eq!(parse(line).unwrap().task, task, "{line}");
        }
        assert_eq!(parse_as("mailq", "").unwrap().task, Task::List);
        assert_eq!(parse_as("mailq", "-v").unwrap().task, Task::List);
        assert_eq!(parse_as("newaliases", "").unwrap().task, Task::Nothing);
        assert_eq!(parse_as("newaliases", "-bp").unwrap().task, Task::List);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_the_way_out() {
        for (line, words) in [
            ("-q15m", "postrider serve"),
            ("-qRexample.org", "queue retry"),
            ("-bd", "postrider serve"),
            ("-bt", "-bm"),
            ("-bv a@b", "-bm"),
            ("-X /tmp/log a@b", "--log debug"),
            ("-z", "there is no option -z"),
            ("--wait", "there is no option --wait"),
            ("-f", "-f needs a value"),
            ("--account", "--account needs a value"),
            ("-B binary a@b", "8BITMIME"),
            ("-bp a@b", "recipients"),
            ("-bs -t", "-t"),
            ("-q -t", "-t"),
        ] {
            let failure = parse(line).unwrap_err();
            assert!(failure.to_string().contains(words), "{line}: {failure}");
            assert_eq!(failure.exit_code(), 64);
        }
    }

    #[test]
    fn delivery_is_waited_for_where_that_is_asked_for() {
        for (line, expected) in [
            ("a@b", false),
            ("-odi a@b", true),
            ("-O DeliveryMode=i a@b", true),
            ("-odb a@b", false),
            ("-odq a@b", false),
        ] {
            assert_eq!(parse(line).unwrap().deliver, expected, "{line}");
        }
    }

    #[test]
    fn notifications_and_postriders_own_options_are_kept() {
        let options =
            parse("-N failure,delay -R hdrs -V QQ314 --account a --config=p a@b").unwrap();
        assert_eq!(options.notify.as_deref(), Some("failure,delay"));
        assert_eq!(options.ret.as_deref(), Some("hdrs"));
        assert_eq!(options.envelope_id.as_deref(), Some("QQ314"));
        assert_eq!(options.account.as_deref(), Some("a"));
        assert_eq!(options.config.as_deref(), Some(Path::new("p")));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_arguments_never_panic(arguments in proptest::collection::vec("-{0,2}\\PC{0,6}", 0..6)) {
            let _ = Options::parse("sendmail", arguments.into_iter().map(OsString::from));
        }
    }
}
