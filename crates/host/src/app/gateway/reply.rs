//! What a device hears of this side's trouble: a reply that is true, says whether to come again, and
//! tells nothing of the inside.

use postrider_gateway::Refusal;

use crate::failure::Failure;

/// In the words of SMTP.
///
/// Whatever a person here can mend is a transient reply: a device that keeps its mail and comes again
/// loses none of it. What is wrong with the message itself is permanent, with the reason.
pub(crate) fn to(failure: &Failure) -> Refusal {
    let own = || failure.message.clone();
    match failure.code.as_str() {
        "queue.full" => Refusal::new(452, "4.3.1", "the disk is full, try again later"),
        "queue.read_only" => Refusal::new(
            451,
            "4.3.5",
            "the queue cannot be written to, try again later",
        ),
        "queue.too_large" | "message.too_large" => Refusal::new(552, "5.3.4", own()),
        code if code.starts_with("queue.") => {
            Refusal::new(451, "4.3.0", "the queue is not to be had, try again later")
        }
        code if code.starts_with("vault.") => Refusal::new(
            454,
            "4.7.0",
            "credentials cannot be looked up, try again later",
        ),
        "hook.refused" => Refusal::new(550, "5.7.1", own()),
        "hook.failed" => Refusal::new(451, "4.3.0", "a rule could not be applied, try again later"),
        code if code.starts_with("message.") => Refusal::new(554, "5.6.0", own()),
        code if code.starts_with("config.") => Refusal::new(
            451,
            "4.3.5",
            "the gateway is not set up for this mail, try again later",
        ),
        _ => Refusal::new(451, "4.3.0", "an internal error, try again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replied(code: &str) -> (u16, &'static str, String) {
        let failure = Failure::new(code, "what the disk's owner reads: /var/lib/postrider");
        let said = to(&failure);
        (said.code, said.enhanced, said.text)
    }

    #[test]
    fn trouble_of_this_side_is_worth_another_attempt_and_names_no_file() {
        for (code, expected) in [
            ("queue.full", (452, "4.3.1")),
            ("queue.read_only", (451, "4.3.5")),
            ("queue.io", (451, "4.3.0")),
            ("queue.busy", (451, "4.3.0")),
            ("config.no_such_account", (451, "4.3.5")),
            ("hook.failed", (451, "4.3.0")),
            ("vault.wrong_key", (454, "4.7.0")),
            ("internal", (451, "4.3.0")),
            ("plugin.failed", (451, "4.3.0")),
        ] {
            let (reply, enhanced, text) = replied(code);
            assert_eq!((reply, enhanced), expected, "{code}");
            assert!(!text.contains("/var"), "{code}: {text}");
            assert!(enhanced.starts_with('4'), "{code}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_message_is_final_and_says_what() {
        let failure = Failure::new("message.invalid", "line 3 of the header is no field");
        let said = to(&failure);
        assert_eq!((said.code, said.enhanced), (554, "5.6.0"));
        assert_eq!(said.text, "line 3 of the header is no field");
        assert_eq!(to(&Failure::new("message.too_large", "x")).code, 552);
        let refused = to(&Failure::new(
            "hook.refused",
            "a script refused it: not today",
        ));
        assert_eq!((refused.code, refused.enhanced), (550, "5.7.1"));
    }
}
