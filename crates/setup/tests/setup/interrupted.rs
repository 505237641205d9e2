//! Runs that end anywhere, and the run after them.

use postrider_setup::{CredentialKind, Flow, OrphanKind, SecretName, StepId, Wanted};
use serde_json::Value;

use crate::record::{CERTIFICATE, Machine, by_browser, on_its_own, wanted};
use crate::tenant::{End, Fate, Tenant};

const NAME: &str = "Postrider: alerts";

fn set_fate(tenant: &Tenant, end: Option<End>) {
    *tenant.fate.lock().unwrap() = Fate {
        end,
        ..Fate::default()
    };
}

fn list<'a>(app: &'a Value, name: &str) -> &'a [Value] {
    app[name].as_array().map_or(&[], Vec::as_slice)
}

/// One application with one service principal and one credential: the one that is recorded and
/// whose secret part is kept.
fn assert_whole(machine: &Machine, wanted: &Wanted) {
    let apps = machine.tenant.applications(NAME);
    assert_eq!(apps.len(), 1, "one application");
    let app = &apps[0];
    let known = machine.known();
    let recorded = known.application.as_ref().unwrap();
    assert_eq!(app["appId"], *recorded.client_id);
    assert!(known.finished);

    let principals = machine.tenant.with(|d| d.principals.clone());
    let ours: Vec<&Value> = principals
        .iter()
        .filter(|p| p["appId"] == app["appId"])
        .collect();
    assert_eq!(ours.len(), 1, "one service principal");
    machine.tenant.with(|d| {
        if wanted.flow.is_delegated() {
            let grants = d.grants.iter().filter(|g| g["clientId"] == ours[0]["id"]);
            assert_eq!(grants.count(), 2, "consent once for each service");
        } else {
            let assigned = d
                .assigned
                .iter()
                .filter(|a| a["principalId"] == ours[0]["id"]);
            assert_eq!(assigned.count(), 1 + usize::from(wanted.own_renewal));
        }
        assert_eq!(d.owners.len(), usize::from(wanted.own_renewal));
    });

    let passwords = list(app, "passwordCredentials");
    let keys = list(app, "keyCredentials");
    match wanted.credential {
        CredentialKind::None => assert!(passwords.is_empty() && keys.is_empty()),
        CredentialKind::Secret { .. } => {
            assert_eq!((passwords.len(), keys.len()), (1, 0), "one secret");
            let key_id = known.credential.unwrap().key_id;
            assert_eq!(passwords[0]["keyId"], *key_id);
            let secrets = machine.tenant.with(|d| d.secrets.clone());
            let made = secrets.iter().find(|(id, _)| *id == key_id).unwrap();
            assert_eq!(
                machine.secret(SecretName::ClientSecret).as_ref(),
                Some(&made.1)
            );
        }
        CredentialKind::Certificate { .. } => {
            assert_eq!((passwords.len(), keys.len()), (0, 1), "one certificate");
            assert_eq!(keys[0]["keyId"], *known.credential.unwrap().key_id);
            let kept = machine.secret(SecretName::Certificate).unwrap();
            let base64: String = kept.lines().filter(|l| !l.starts_with('-')).collect();
            assert_eq!(keys[0]["key"], base64, "the certificate that is kept");
        }
    }
}

/// The same, ended at every point there is, before it takes effect and after; then run again.
async fn ends_anywhere(wanted: &Wanted) {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine.run(wanted).await.unwrap();
    assert_whole(&machine, wanted);
    let points = tenant.fate.lock().unwrap().points;
    assert!(points > 15, "{points} points");

    for at in 0..points {
        for after in [false, true] {
            let tenant = Tenant::new();
            let machine = Machine::new(&tenant);
            set_fate(&tenant, Some(End { at, after }));
            machine.run(wanted).await.unwrap_err();
            let before = remains(&tenant);

            set_fate(&tenant, None);
            let (_, done) = machine.run(wanted).await.unwrap();

            assert_whole(&machine, wanted);
            for id in before {
                let mentioned = done.orphans.iter().any(|orphan| orphan.id == id);
                let used = id == done.client_id
                    || done.credential.as_ref().is_some_and(|c| c.key_id == id);
                assert!(
                    mentioned || used,
                    "ended at {at}, after {after}: {id} unmentioned"
                );
            }
            tenant.writes();
            let (plan, done) = machine.run(wanted).await.unwrap();
            assert!(plan.is_done(), "ended at {at}: {:#?}", plan.steps);
            assert!(done.made.is_empty());
            assert_eq!(
                tenant.writes(),
                [""; 0],
                "a run on a whole tenant writes nothing"
            );
        }
    }
}

/// The applications' client ids, and the key ids of their credentials.
fn remains(tenant: &Tenant) -> Vec<String> {
    let mut ids = Vec::new();
    for app in tenant.applications(NAME) {
        ids.push(app["appId"].as_str().unwrap().to_owned());
        for name in ["passwordCredentials", "keyCredentials"] {
            let keys = list(&app, name).iter();
            ids.extend(keys.map(|key| key["keyId"].as_str().unwrap().to_owned()));
        }
    }
    ids
}

#[tokio::test]
async fn a_run_of_an_application_on_its_own_may_end_anywhere() {
    ends_anywhere(&on_its_own()).await;
}

#[tokio::test]
async fn a_run_for_a_person_with_a_browser_may_end_anywhere() {
    ends_anywhere(&by_browser()).await;
}

#[tokio::test]
async fn a_run_for_a_public_client_may_end_anywhere() {
    ends_anywhere(&wanted(Flow::DeviceCode, CredentialKind::None)).await;
}

#[tokio::test]
async fn a_certificate_whose_upload_was_not_confirmed_is_replaced_and_mentioned() {
    let wanted = wanted(Flow::ClientCredentials, CERTIFICATE);
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine.run(&wanted).await.unwrap();
    assert_whole(&machine, &wanted);
    let points = tenant.fate.lock().unwrap().points;

    // From the end: the record of the end, of the credential, the reading back, the upload.
    for from_end in 1..=6 {
        let tenant = Tenant::new();
        let machine = Machine::new(&tenant);
        let at = points - from_end;
        set_fate(&tenant, Some(End { at, after: true }));
        machine.run(&wanted).await.unwrap_err();
        set_fate(&tenant, None);
        let had = remains(&tenant).len();

        let (_, done) = machine.run(&wanted).await.unwrap();

        assert_whole(&machine, &wanted);
        let removed = done
            .orphans
            .iter()
            .filter(|o| o.kind == OrphanKind::Certificate);
        // The first is the application itself.
        let live = usize::from(from_end <= 2);
        assert_eq!(removed.count(), had - 1 - live, "{from_end} from the end");
    }
}

#[tokio::test]
async fn an_application_that_does_not_show_yet_is_waited_for() {
    let wanted = by_browser();
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let calm = Machine::new(&Tenant::new());
    calm.run(&wanted).await.unwrap();
    let created = calm.tenant.with(|d| {
        d.asked
            .iter()
            .position(|asked| asked == "POST /applications")
            .unwrap()
    });
    // Two notes precede it: the beginning, and what is about to be created.
    set_fate(
        &tenant,
        Some(End {
            at: created + 2,
            after: true,
        }),
    );
    machine.run(&wanted).await.unwrap_err();
    assert_eq!(tenant.applications(NAME).len(), 1);

    set_fate(&tenant, None);
    tenant.with(|d| d.not_yet = 3);
    machine.run(&wanted).await.unwrap();

    assert_whole(&machine, &wanted);
    assert!(tenant.with(|d| d.paused) > std::time::Duration::ZERO);
}

#[tokio::test]
async fn an_application_that_showed_too_late_is_removed_and_mentioned() {
    let wanted = by_browser();
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine.run(&wanted).await.unwrap();
    let mark = "postrider-setup-of-an-interrupted-run";
    machine
        .disk
        .lock()
        .unwrap()
        .known
        .application_marks
        .push(mark.to_owned());
    tenant.with(|d| {
        let mut twin = d.applications[0].clone();
        twin["id"] = "c0000000-0000-4000-8000-0000000000aa".into();
        twin["appId"] = "c0000000-0000-4000-8000-0000000000ab".into();
        twin["tags"] = serde_json::json!([mark]);
        d.applications.push(twin);
    });

    let (plan, done) = machine.run(&wanted).await.unwrap();

    assert!(!plan.is_done());
    assert_eq!(done.orphans.len(), 1);
    assert_eq!(done.orphans[0].id, "c0000000-0000-4000-8000-0000000000ab");
    assert_whole(&machine, &wanted);
}

#[tokio::test]
async fn a_credential_that_does_not_show_yet_is_not_taken_for_gone() {
    for wanted in [by_browser(), wanted(Flow::ClientCredentials, CERTIFICATE)] {
        let tenant = Tenant::new();
        let machine = Machine::new(&tenant);
        machine.run(&wanted).await.unwrap();
        tenant.with(|d| {
            d.no_credential_yet = 3;
            d.paused = std::time::Duration::ZERO;
        });

        let (plan, done) = machine.run(&wanted).await.unwrap();

        assert!(plan.is_done(), "{:#?}", plan.steps);
        assert_eq!(done.made.len(), 0);
        assert!(tenant.with(|d| d.paused) > std::time::Duration::ZERO);
        assert_whole(&machine, &wanted);
    }
}

#[tokio::test]
async fn a_secret_of_a_killed_run_that_shows_late_is_removed_by_the_next() {
    let wanted = by_browser();
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    // Killed where the answer with the secret's text would have come.
    let mut at = 0;
    while tenant.with(|d| d.secrets.is_empty()) {
        set_fate(&tenant, Some(End { at, after: true }));
        machine.run(&wanted).await.unwrap_err();
        at += 1;
    }
    assert_eq!(machine.known().credential, None);

    set_fate(&tenant, None);
    // Until the plan is made it does not show.
    tenant.with(|d| d.no_credential_yet = 2);
    let (plan, done) = machine.run(&wanted).await.unwrap();

    let planned = plan.steps.iter().map(|step| step.id);
    assert!(
        !planned
            .into_iter()
            .any(|id| id == StepId::LeftOverCredential)
    );
    assert_eq!(done.orphans.len(), 1);
    assert_eq!(done.orphans[0].kind, OrphanKind::Secret);
    assert_whole(&machine, &wanted);
}

#[tokio::test]
async fn what_was_asked_for_and_does_not_show_is_mentioned() {
    let wanted = by_browser();
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine.run(&wanted).await.unwrap();
    let mark = "postrider alerts of-a-request-that-was-lost";
    {
        let known = &mut machine.disk.lock().unwrap().known;
        known.finished = false;
        known.credential_marks.push(mark.to_owned());
    }

    let (plan, _) = machine.run(&wanted).await.unwrap();
    let (after, _) = machine.run(&wanted).await.unwrap();

    assert!(plan.findings.iter().any(|f| f.text.contains(mark)));
    assert!(!after.findings.iter().any(|f| f.text.contains(mark)));
    // Had it only been slow, it goes as soon as it shows.
    tenant.with(|d| {
        let passwords = d.applications[0]["passwordCredentials"]
            .as_array_mut()
            .unwrap();
        let mut slow = passwords[0].clone();
        slow["keyId"] = "c0000000-0000-4000-8000-0000000000cc".into();
        slow["displayName"] = mark.into();
        passwords.push(slow);
    });
    let (_, done) = machine.run(&wanted).await.unwrap();
    assert_eq!(done.orphans[0].name, mark);
    assert_whole(&machine, &wanted);
}
