//! What a signed-in mailbox may submit: `facts` A3 to A5.

use postrider_smtp::server::{ServerReply, Submission};

use super::wording::Names;
use crate::inbox::Origin;
use crate::scenario::{Right, Scenario, User};

/// Recipients of one domain in an envelope.
pub(super) const OF_ONE_DOMAIN: usize = 200;

/// Why a message is refused for good: the reply, and the truth for the log.
pub(super) struct Unfit {
    pub(super) reply: ServerReply,
    pub(super) why: String,
}

/// Checks a message against everything that does not change by waiting.
pub(super) fn check(
    scenario: &Scenario,
    names: &Names,
    user: &User,
    submission: &Submission,
    origin: &Origin,
) -> Result<(), Unfit> {
    let unfit = |reply, why: String| Err(Unfit { reply, why });
    let octets = submission.body.as_slice();
    let largest = user
        .max_send_octets
        .unwrap_or(scenario.limits.mailbox_message_octets);
    if octets.len() as u64 > largest {
        return unfit(
            names.too_large_for_mailbox(),
            format!(
                "{} octets are more than the mailbox's {largest}",
                octets.len()
            ),
        );
    }
    if user.mailbox_full {
        return unfit(
            names.mailbox_full(),
            "the mailbox is full, so Sent Items cannot take a copy".to_owned(),
        );
    }
    for from in senders(submission, origin) {
        if let Err(why) = may_send_as(scenario, user, from) {
            return unfit(names.send_as_denied(&user.upn, from), why);
        }
    }
    Ok(())
}

/// Where a domain has its one recipient too many, it is the last one's.
pub(super) fn crowded(domain_of: &str, accepted: &[String]) -> bool {
    let domain = |address: &str| {
        address
            .rsplit_once('@')
            .map(|(_, domain)| domain.to_ascii_lowercase())
    };
    let wanted = domain(domain_of);
    accepted
        .iter()
        .filter(|address| domain(address) == wanted)
        .count()
        >= OF_ONE_DOMAIN
}

/// From's addresses; without any, the reverse path stands for them.
fn senders<'a>(submission: &'a Submission, origin: &'a Origin) -> &'a [String] {
    if origin.from.is_empty() {
        std::slice::from_ref(&submission.mail.reverse_path)
    } else {
        &origin.from
    }
}

/// A5. `Err` says what is missing.
pub(crate) fn may_send_as(scenario: &Scenario, user: &User, from: &str) -> Result<(), String> {
    let Some(owner) = scenario.mailbox(from) else {
        return Err(format!("{from} is no mailbox here"));
    };
    if owner.upn != user.upn && !scenario.allows(&owner.upn, &user.upn, Right::SendAs) {
        let on_behalf = scenario.allows(&owner.upn, &user.upn, Right::SendOnBehalf);
        return match (on_behalf, scenario.limits.send_on_behalf) {
            (true, true) => Ok(()),
            (true, false) => Err(format!(
                "{} has Send on Behalf for {}, which is not known to work over SMTP \
                 (limits.send_on_behalf = true lets it pass)",
                user.upn, owner.upn
            )),
            (false, _) => Err(format!(
                "{0} lacks Send As: Add-RecipientPermission {1} -Trustee {0} -AccessRights SendAs",
                user.upn, owner.upn
            )),
        };
    }
    let alias = !owner.upn.eq_ignore_ascii_case(from);
    if alias
        && !scenario
            .tenant_of(&owner.upn)
            .is_some_and(|tenant| tenant.send_from_alias)
    {
        return Err(format!(
            "{from} is an alias of {}: Set-OrganizationConfig -SendFromAliasEnabled $true",
            owner.upn
        ));
    }
    Ok(())
}
