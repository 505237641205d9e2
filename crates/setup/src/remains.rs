//! What earlier runs left, and what is known of the credential in use.

use std::time::Duration;

use postrider_graph::Application;

use crate::finding::{Finding, Topic, Who};
use crate::journal::{Known, KnownCredential};
use crate::permission::same;
use crate::plan::{Found, live};
use crate::wanted::Wanted;

/// How credentials made for accounts begin, whichever machine they are on.
pub(crate) const OUR_PREFIX: &str = "postrider ";

/// A credential that ends sooner than this deserves a word.
const SOON: Duration = Duration::from_hours(30 * 24);

/// What deserves a word and is no step of the plan.
pub(crate) fn findings(wanted: &Wanted, found: &Found) -> Vec<Finding> {
    let known = &found.known;
    let Some(app) = &found.application else {
        let asked = !known.finished && !known.application_marks.is_empty();
        let unheard_of = asked && known.application.is_none();
        return unheard_of
            .then(|| unheard("an application"))
            .into_iter()
            .collect();
    };
    let live = live(wanted, found);
    let mut findings = Vec::new();
    findings.extend(application_before(app, known));
    findings.extend(credential_unheard_of(app, known));
    if wanted.renewing {
        findings.push(renewing(wanted));
    } else {
        findings.extend(others_credentials(app, known, live));
    }
    findings.extend(live.and_then(|live| soon_over(wanted, live)));
    findings
}

fn application_before(app: &Application, known: &Known) -> Option<Finding> {
    let before = known.application.as_ref()?;
    (!same(&before.object_id, &app.id)).then(|| {
        Finding::warn(
            Topic::LeftOver,
            format!(
                "The account had another application (client id {})",
                before.client_id
            ),
        )
        .because("this account will not use it any more")
        .remedied(
            Who::ApplicationAdministrator,
            "delete it if nothing else does",
        )
    })
}

fn credential_unheard_of(app: &Application, known: &Known) -> Option<Finding> {
    let last = known.credential_marks.last().filter(|_| !known.finished)?;
    let passwords = app.passwords.iter().map(|p| &p.display_name);
    let certificates = app.certificates.iter().map(|c| &c.display_name);
    let shows = passwords
        .chain(certificates)
        .any(|name| name.as_ref() == Some(last));
    (!shows).then(|| unheard(&format!("the credential \"{last}\"")))
}

/// Credentials that look like ours and that no run here asked for.
fn others_credentials(
    app: &Application,
    known: &Known,
    live: Option<&KnownCredential>,
) -> Vec<Finding> {
    let passwords = app.passwords.iter().map(|p| (&p.display_name, &p.key_id));
    let certificates = app
        .certificates
        .iter()
        .map(|c| (&c.display_name, &c.key_id));
    passwords
        .chain(certificates)
        .filter_map(|(name, key_id)| {
            let name = name.as_ref()?;
            let in_use = live.is_some_and(|live| same(&live.key_id, key_id));
            let others =
                name.starts_with(OUR_PREFIX) && !known.credential_marks.contains(name) && !in_use;
            others.then(|| {
                Finding::warn(
                    Topic::LeftOver,
                    format!("The application has a credential \"{name}\" (key id {key_id})"),
                )
                .because("this program made it, but not on this machine, or its record is lost")
                .remedied(
                    Who::ApplicationAdministrator,
                    "remove it if no other machine uses it",
                )
            })
        })
        .collect()
}

fn renewing(wanted: &Wanted) -> Finding {
    Finding::warn(
        Topic::Expiry,
        "A renewal of the account's credential is under way",
    )
    .because("what it made and what it replaces are both left as they are")
    .remedied(
        Who::You,
        format!(
            "to end it: postrider rotate --client-secret {} --finish, or --abort",
            wanted.account
        ),
    )
}

fn soon_over(wanted: &Wanted, live: &KnownCredential) -> Option<Finding> {
    let left = live.ends.duration_since(wanted.now).unsigned_abs();
    (left < SOON).then(|| {
        Finding::warn(
            Topic::Expiry,
            format!("The credential expires on {}", live.ends.strftime("%F")),
        )
        .remedied(
            Who::You,
            format!("postrider rotate --client-secret {}", wanted.account),
        )
    })
}

/// What an interrupted run asked for, and nobody has seen.
fn unheard(what: &str) -> Finding {
    Finding::warn(
        Topic::LeftOver,
        format!("An interrupted run asked for {what}, which does not show"),
    )
    .because("the request did not arrive, or the directory does not show it yet")
    .remedied(
        Who::You,
        "go on, and run this again in some minutes: should it show by then, it is removed",
    )
}
