//! Questions at a terminal, each checked while its answer is typed.
//!
//! The line editor is the one of `postrider repl`; where the terminal is a dumb one, it reads
//! plain lines, and a wrong answer is asked for again. Secrets are typed unseen, elsewhere.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, CompletionType, Config, Context, Editor, Helper};

use crate::cli::output::complain;
use crate::failure::Failure;
use crate::terminal::cancelled;

/// So often is a plain terminal asked the same.
const ATTEMPTS: usize = 10;

/// Why an answer is none; the words stand behind it while it is typed.
pub(super) type Check = Box<dyn Fn(&str) -> Result<(), String>>;

/// One of several answers.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What is typed, and written down.
    pub(super) word: &'static str,
    /// What it means.
    pub(super) meaning: &'static str,
}

/// Whether somebody is there to answer.
pub(in crate::cli) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A text; `default` where nothing is typed.
///
/// # Errors
/// Ctrl-C, or the terminal went away.
pub(super) fn text(
    question: &str,
    default: Option<&str>,
    check: impl Fn(&str) -> Result<(), String> + 'static,
) -> Result<String, Failure> {
    let prompt = match default {
        Some(default) => format!("{question} [{default}]: "),
        None => format!("{question}: "),
    };
    let answer = read(
        &prompt,
        Assistant {
            check: Box::new(check),
            words: default.map(str::to_owned).into_iter().collect(),
            may_be_empty: default.is_some(),
        },
    )?;
    Ok(match default {
        Some(default) if answer.is_empty() => default.to_owned(),
        _ => answer,
    })
}

/// A text, or nothing.
///
/// # Errors
/// As for [`text`].
pub(super) fn optional(
    question: &str,
    check: impl Fn(&str) -> Result<(), String> + 'static,
) -> Result<Option<String>, Failure> {
    let answer = read(
        &format!("{question} (Enter for none): "),
        Assistant {
            check: Box::new(check),
            words: Vec::new(),
            may_be_empty: true,
        },
    )?;
    Ok(Some(answer).filter(|answer| !answer.is_empty()))
}

/// One of `choices`: by its word, by the beginning of it, or by its number.
///
/// # Errors
/// As for [`text`].
pub(super) fn choose(
    question: &str,
    choices: &[Choice],
    default: &'static str,
) -> Result<&'static str, Failure> {
    complain(&format!("\n{question}"));
    for (index, choice) in choices.iter().enumerate() {
        complain(&format!(
            "  {:>2}  {:<28}  {}",
            index + 1,
            choice.word,
            choice.meaning
        ));
    }
    let known = choices.to_vec();
    let answer = read(
        &format!("Number or word [{default}]: "),
        Assistant {
            check: Box::new(move |typed| chosen(&known, typed).map(|_| ())),
            words: choices
                .iter()
                .map(|choice| choice.word.to_owned())
                .collect(),
            may_be_empty: true,
        },
    )?;
    if answer.is_empty() {
        return Ok(default);
    }
    chosen(choices, &answer).map_err(|why| Failure::new("usage.answer", why))
}

/// Yes or no.
///
/// # Errors
/// As for [`text`].
pub(in crate::cli) fn yes(question: &str, default: bool) -> Result<bool, Failure> {
    let letters = if default { "[Y/n]" } else { "[y/N]" };
    let answer = read(
        &format!("{question} {letters}: "),
        Assistant {
            check: Box::new(|typed| said_yes(typed).map(|_| ()).ok_or("y or n".to_owned())),
            words: Vec::new(),
            may_be_empty: true,
        },
    )?;
    Ok(said_yes(&answer).unwrap_or(default))
}

fn said_yes(typed: &str) -> Option<bool> {
    match typed.to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

fn chosen(choices: &[Choice], typed: &str) -> Result<&'static str, String> {
    if let Ok(number) = typed.parse::<usize>() {
        let choice = number.checked_sub(1).and_then(|index| choices.get(index));
        return choice
            .map(|choice| choice.word)
            .ok_or_else(|| format!("1 to {}", choices.len()));
    }
    let typed = typed.to_ascii_lowercase();
    if let Some(exactly) = choices.iter().find(|choice| choice.word == typed) {
        return Ok(exactly.word);
    }
    let begun: Vec<&Choice> = choices
        .iter()
        .filter(|choice| choice.word.starts_with(&typed))
        .collect();
    match begun.as_slice() {
        [only] => Ok(only.word),
        [] => Err("none of these".to_owned()),
        several => Err(several
            .iter()
            .map(|choice| choice.word)
            .collect::<Vec<_>>()
            .join(" or ")),
    }
}

/// An answer that `assistant` takes.
fn read(prompt: &str, assistant: Assistant) -> Result<String, Failure> {
    let config = Config::builder()
        .behavior(Behavior::PreferTerm)
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Assistant, _> =
        Editor::with_config(config).map_err(|error| unreadable(&error))?;
    editor.set_helper(Some(assistant));
    for _ in 0..ATTEMPTS {
        let line = match editor.readline(prompt) {
            Ok(line) => line.trim().to_owned(),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Err(cancelled()),
            Err(error) => return Err(unreadable(&error)),
        };
        let wrong = editor.helper().and_then(|assistant| assistant.fault(&line));
        match wrong {
            None => return Ok(line),
            Some(why) => complain(&format!("  {why}")),
        }
    }
    Err(Failure::new(
        "usage.answer",
        "no answer that can be used was given",
    ))
}

/// Whether the line editor reads plain lines; it knows these terminals by name.
fn is_plain() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    ["dumb", "cons25", "emacs"].contains(&term.to_ascii_lowercase().as_str())
}

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        "file.unreadable",
        format!("cannot read what is typed: {error}"),
    )
}

/// What the line editor knows of one question.
struct Assistant {
    check: Check,
    words: Vec<String>,
    may_be_empty: bool,
}

impl Assistant {
    /// Why `line` is no answer.
    fn fault(&self, line: &str) -> Option<String> {
        let line = line.trim();
        if line.is_empty() && self.may_be_empty {
            return None;
        }
        (self.check)(line).err()
    }
}

/// Words behind what is typed, which are no part of it.
struct Remark(String);

impl Hint for Remark {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = Remark;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Remark> {
        if line.is_empty() || at < line.len() {
            return None;
        }
        let why = self.fault(line)?;
        Some(Remark(format!("   ← {why}")))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Cow::Borrowed(hint);
        }
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..at];
        let fits = |word: &&String| word.starts_with(typed);
        Ok((0, self.words.iter().filter(fits).cloned().collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        // The line stays to be mended. Where it cannot be, it is asked for again.
        Ok(match self.fault(context.input()) {
            Some(_) if is_plain() => ValidationResult::Valid(None),
            Some(why) => ValidationResult::Invalid(Some(format!("   ← {why}"))),
            None => ValidationResult::Valid(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: [Choice; 3] = [
        Choice {
            word: "starttls",
            meaning: "",
        },
        Choice {
            word: "implicit",
            meaning: "",
        },
        Choice {
            word: "star",
            meaning: "",
        },
    ];

    #[test]
    fn a_choice_is_made_by_number_word_or_beginning() {
        assert_eq!(chosen(&CHOICES, "2"), Ok("implicit"));
        assert_eq!(chosen(&CHOICES, "IMP"), Ok("implicit"));
        assert_eq!(chosen(&CHOICES, "star"), Ok("star"));
        assert_eq!(chosen(&CHOICES, "sta"), Err("starttls or star".to_owned()));
        assert_eq!(chosen(&CHOICES, "0"), Err("1 to 3".to_owned()));
        assert_eq!(chosen(&CHOICES, "none"), Err("none of these".to_owned()));
    }

    #[test]
    fn an_empty_answer_is_one_only_where_there_is_a_default() {
        let assistant = |may_be_empty| Assistant {
            check: Box::new(|typed| {
                if typed.is_empty() {
                    Err("something".to_owned())
                } else {
                    Ok(())
                }
            }),
            words: Vec::new(),
            may_be_empty,
        };
        assert_eq!(assistant(true).fault(" "), None);
        assert_eq!(assistant(false).fault(" ").as_deref(), Some("something"));
    }
}
