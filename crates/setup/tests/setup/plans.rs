//! What plans say, and what carrying them out leaves alone.

use postrider_graph::ids::{resource, role, scope};
use postrider_setup::{
    AppChoice, CredentialKind, Event, Finding, Flow, Known, Plan, Progress, SecretName,
    SetupErrorKind, State, Step, StepId, Wanted, apply,
};
use serde_json::{Value, json};

use crate::record::{CERTIFICATE, Machine, OnDisk, SECRET, YEAR, by_browser, on_its_own, wanted};
use crate::tenant::{EXCHANGE, GRAPH, OWNED_BY, Tenant};

fn step(plan: &Plan, id: StepId) -> &Step {
    plan.steps.iter().find(|step| step.id == id).unwrap()
}

#[tokio::test]
async fn a_plan_only_reads() {
    let machine = Machine::new(&Tenant::new());

    let plan = machine.plan(&on_its_own()).await.unwrap();

    assert!(!plan.is_done());
    assert_eq!(machine.tenant.writes(), [""; 0]);
    let made: Vec<StepId> = plan.steps.iter().map(|step| step.id).collect();
    assert_eq!(
        made,
        [
            StepId::Application,
            StepId::ServicePrincipal,
            StepId::Permissions,
            StepId::AppRoleExchange,
            StepId::AppRoleGraph,
            StepId::Owner,
            StepId::Credential,
        ]
    );
    assert!(plan.steps.iter().all(|step| step.state == State::Create));
}

#[tokio::test]
async fn a_plan_reads_as_sentences_and_as_data() {
    let machine = Machine::new(&Tenant::new());

    let plan = machine.plan(&by_browser()).await.unwrap();

    assert_eq!(
        step(&plan, StepId::Application).what,
        "Application \"Postrider: alerts\", for this tenant alone, with the redirect \
         http://localhost"
    );
    assert_eq!(
        step(&plan, StepId::ConsentExchange).what,
        "Consent for everybody in the tenant to SMTP.Send of Office 365 Exchange Online"
    );
    assert_eq!(
        step(&plan, StepId::Credential).what,
        "Client secret, good until 2027-11-23"
    );
    let data = serde_json::to_value(&plan).unwrap();
    assert_eq!(data["tenant"]["domains"][0], "contoso.com");
    assert_eq!(data["signed_in"], "admin@contoso.com");
    assert_eq!(data["steps"][0]["id"], "application");
    assert_eq!(data["steps"][0]["state"]["is"], "create");
}

#[tokio::test]
async fn what_is_made_is_what_was_wanted() {
    let machine = Machine::new(&Tenant::new());

    let (_, done) = machine.run(&by_browser()).await.unwrap();

    let app = &machine.tenant.applications("Postrider: alerts")[0];
    assert_eq!(done.client_id, app["appId"].as_str().unwrap());
    assert_eq!(app["signInAudience"], "AzureADMyOrg");
    assert_eq!(app["web"]["redirectUris"], json!(["http://localhost"]));
    assert_eq!(app["publicClient"]["redirectUris"], json!([]));
    assert_eq!(app["isFallbackPublicClient"], false);
    assert_eq!(
        app["requiredResourceAccess"],
        json!([
            { "resourceAppId": resource::EXCHANGE_ONLINE, "resourceAccess": [
                { "id": scope::EXCHANGE_SMTP_SEND, "type": "Scope" }] },
            { "resourceAppId": resource::GRAPH, "resourceAccess": [
                { "id": scope::OFFLINE_ACCESS, "type": "Scope" },
                { "id": scope::OPENID, "type": "Scope" },
                { "id": scope::PROFILE, "type": "Scope" },
                { "id": scope::USER_READ, "type": "Scope" }] },
        ])
    );
    let grants = machine.tenant.with(|d| d.grants.clone());
    let scopes: Vec<(&str, &str)> = grants
        .iter()
        .map(|g| {
            (
                g["resourceId"].as_str().unwrap(),
                g["scope"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        scopes,
        [
            (EXCHANGE, "SMTP.Send"),
            (GRAPH, "offline_access openid profile User.Read"),
        ]
    );
    assert!(grants.iter().all(|g| g["consentType"] == "AllPrincipals"));
    let ends = done.credential.unwrap().ends;
    assert_eq!(ends.to_string(), "2027-11-23T10:00:00Z");
}

#[tokio::test]
async fn an_application_on_its_own_gets_roles_and_itself_as_owner() {
    let machine = Machine::new(&Tenant::new());

    let (_, done) = machine.run(&on_its_own()).await.unwrap();

    machine.tenant.with(|d| {
        let roles: Vec<&str> = d
            .assigned
            .iter()
            .map(|a| a["appRoleId"].as_str().unwrap())
            .collect();
        assert_eq!(roles, [role::EXCHANGE_SMTP_SEND_AS_APP, OWNED_BY]);
        assert!(d.grants.is_empty());
        assert_eq!(
            d.owners,
            [(
                done.application_id.clone(),
                done.service_principal_id.clone()
            )]
        );
    });
}

#[tokio::test]
async fn a_public_client_may_use_either_flow_and_has_no_credential() {
    let machine = Machine::new(&Tenant::new());

    let (plan, done) = machine
        .run(&wanted(Flow::DeviceCode, CredentialKind::None))
        .await
        .unwrap();

    assert!(!plan.steps.iter().any(|step| step.id == StepId::Credential));
    assert_eq!(done.credential, None);
    let app = &machine.tenant.applications("Postrider: alerts")[0];
    assert_eq!(app["isFallbackPublicClient"], true);
    assert_eq!(
        app["publicClient"]["redirectUris"],
        json!(["http://localhost"])
    );
}

#[tokio::test]
async fn the_second_run_changes_nothing_and_says_so() {
    for wanted in [
        by_browser(),
        on_its_own(),
        wanted(Flow::ClientCredentials, CERTIFICATE),
        wanted(Flow::AuthorizationCode, CredentialKind::None),
    ] {
        let machine = Machine::new(&Tenant::new());
        machine.run(&wanted).await.unwrap();
        machine.tenant.writes();
        let known = machine.known();

        let (plan, done) = machine.run(&wanted).await.unwrap();

        assert!(plan.is_done(), "{:#?}", plan.steps);
        assert!(done.made.is_empty() && done.orphans.is_empty());
        assert_eq!(machine.tenant.writes(), [""; 0]);
        assert_eq!(machine.known(), known);
    }
}

/// An application that somebody made by hand, with permissions and redirects of its own.
fn made_by_hand(tenant: &Tenant, name: &str) -> Value {
    let app = json!({
        "id": "b0000000-0000-4000-8000-000000000001",
        "appId": "b0000000-0000-4000-8000-000000000002",
        "displayName": name,
        "tags": ["theirs"],
        "web": { "redirectUris": ["https://theirs.example/back"] },
        "publicClient": { "redirectUris": [] },
        "requiredResourceAccess": [
            { "resourceAppId": resource::GRAPH, "resourceAccess": [
                { "id": scope::MAIL_SEND, "type": "Scope" }] }],
        "passwordCredentials": [
            { "keyId": "b0000000-0000-4000-8000-000000000003", "displayName": "theirs",
              "endDateTime": "2027-01-01T00:00:00Z" },
            { "keyId": "b0000000-0000-4000-8000-000000000004",
              "displayName": "postrider alerts of-another-machine",
              "endDateTime": "2027-01-01T00:00:00Z" }],
        "keyCredentials": [],
    });
    tenant.with(|d| d.applications.push(app.clone()));
    app
}

#[tokio::test]
async fn what_others_put_into_an_application_stays() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let before = made_by_hand(&tenant, "Postrider: alerts");
    tenant.with(|d| {
        d.principals
            .push(json!({ "id": "b0000000-0000-4000-8000-000000000005",
            "appId": before["appId"], "accountEnabled": true }));
        d.grants.push(
            json!({ "id": "b-grant", "clientId": "b0000000-0000-4000-8000-000000000005",
            "consentType": "AllPrincipals", "resourceId": GRAPH, "scope": " Mail.Send" }),
        );
    });

    let (plan, done) = machine.run(&by_browser()).await.unwrap();

    assert_eq!(step(&plan, StepId::Application).state, State::Change);
    assert_eq!(step(&plan, StepId::ServicePrincipal).state, State::Exists);
    assert_eq!(step(&plan, StepId::Permissions).state, State::Change);
    assert_eq!(step(&plan, StepId::ConsentGraph).state, State::Change);
    assert_eq!(step(&plan, StepId::ConsentExchange).state, State::Create);
    assert_eq!(done.client_id, before["appId"].as_str().unwrap());
    let app = &tenant.applications("Postrider: alerts")[0];
    assert_eq!(
        app["web"]["redirectUris"],
        json!(["https://theirs.example/back", "http://localhost"])
    );
    assert_eq!(app["tags"], json!(["theirs"]));
    let required = app["requiredResourceAccess"].as_array().unwrap();
    assert_eq!(
        required[0]["resourceAccess"][0],
        before["requiredResourceAccess"][0]["resourceAccess"][0]
    );
    assert_eq!(required[0]["resourceAccess"].as_array().unwrap().len(), 5);
    assert_eq!(required[1]["resourceAppId"], resource::EXCHANGE_ONLINE);
    let passwords = app["passwordCredentials"].as_array().unwrap();
    assert_eq!(passwords.len(), 3, "theirs, another machine's, and ours");
    let scope = tenant.with(|d| d.grants[0]["scope"].clone());
    assert_eq!(scope, "Mail.Send offline_access openid profile User.Read");
    let mentioned = plan
        .findings
        .iter()
        .any(|f| f.text.contains("of-another-machine"));
    assert!(mentioned, "a credential that may be an orphan is mentioned");
}

#[tokio::test]
async fn what_changed_between_plan_and_doing_is_not_lost() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    made_by_hand(&tenant, "Postrider: alerts");
    let graph = tenant.graph();
    let plan = machine.plan(&by_browser()).await.unwrap();
    tenant.with(|d| {
        d.applications[0]["requiredResourceAccess"] = json!([
            { "resourceAppId": "d0000000-0000-4000-8000-000000000001", "resourceAccess": [
                { "id": "d0000000-0000-4000-8000-000000000002", "type": "Role" }] }]);
    });
    let mut record = OnDisk {
        disk: machine.disk.clone(),
        fate: tenant.fate.clone(),
    };

    apply(&graph, &plan, &mut record, &mut |_| {})
        .await
        .unwrap();

    let app = &tenant.applications("Postrider: alerts")[0];
    let required = app["requiredResourceAccess"].as_array().unwrap();
    assert_eq!(
        required[0]["resourceAppId"],
        "d0000000-0000-4000-8000-000000000001"
    );
    assert_eq!(required.len(), 3);
}

#[tokio::test]
async fn two_applications_of_the_name_are_a_question_and_no_guess() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    for _ in 0..2 {
        made_by_hand(&tenant, "Postrider: alerts");
    }

    let plan = machine.plan(&by_browser()).await.unwrap();

    let State::Cannot { why, .. } = &step(&plan, StepId::Application).state else {
        panic!("{plan:#?}");
    };
    assert!(
        why.contains("b0000000-0000-4000-8000-000000000002"),
        "{why}"
    );
    let error = machine.run(&by_browser()).await.unwrap_err();
    assert!(matches!(error.kind, SetupErrorKind::Blocked { .. }));
    assert_eq!(tenant.writes(), [""; 0]);
}

#[tokio::test]
async fn an_application_chosen_by_its_id_is_used_or_missed() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let app = made_by_hand(&tenant, "Their mailer");
    let chosen = |id: &str| Wanted {
        app: AppChoice::Existing(id.to_owned()),
        ..by_browser()
    };
    for id in ["b0000000-0000-4000-8000-0000000000ff", "Their mailer"] {
        let plan = machine.plan(&chosen(id)).await.unwrap();
        let state = &step(&plan, StepId::Application).state;
        assert!(matches!(state, State::Cannot { .. }), "{state:?}");
    }

    let id = app["appId"].as_str().unwrap();
    let (_, done) = machine.run(&chosen(id)).await.unwrap();

    assert_eq!(done.client_id, id);
    assert_eq!(tenant.applications("Postrider: alerts").len(), 0);
}

#[tokio::test]
async fn an_application_that_is_used_no_more_is_mentioned_and_stays() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let (_, first) = machine.run(&by_browser()).await.unwrap();
    let app = made_by_hand(&tenant, "Their mailer");
    let chosen = Wanted {
        app: AppChoice::Existing(app["appId"].as_str().unwrap().to_owned()),
        ..by_browser()
    };

    let (plan, done) = machine.run(&chosen).await.unwrap();

    assert!(done.orphans.is_empty());
    assert_eq!(tenant.applications("Postrider: alerts").len(), 1);
    let mentioned = |f: &Finding| f.text.contains(&first.client_id);
    assert!(plan.findings.iter().any(mentioned), "{:#?}", plan.findings);
    assert_eq!(machine.known().credential, done.credential);
}

#[tokio::test]
async fn an_application_that_was_deleted_is_made_anew_with_a_new_secret() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let (_, first) = machine.run(&by_browser()).await.unwrap();
    tenant.with(|d| d.applications.clear());

    let (plan, second) = machine.run(&by_browser()).await.unwrap();

    assert!(step(&plan, StepId::Application).why.contains("is gone"));
    assert_ne!(first.client_id, second.client_id);
    assert_ne!(first.credential, second.credential);
    assert_eq!(
        machine.secret(SecretName::ClientSecret).unwrap(),
        "secret-1"
    );
}

#[tokio::test]
async fn an_expired_secret_is_replaced_and_then_removed() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let (_, first) = machine.run(&by_browser()).await.unwrap();
    let later = Wanted {
        now: "2027-12-01T00:00:00Z".parse().unwrap(),
        ..by_browser()
    };

    let (plan, second) = machine.run(&later).await.unwrap();

    assert_eq!(
        step(&plan, StepId::Credential).why,
        "the one recorded earlier has expired"
    );
    assert_eq!(second.orphans[0].id, first.credential.unwrap().key_id);
    let app = &tenant.applications("Postrider: alerts")[0];
    assert_eq!(app["passwordCredentials"].as_array().unwrap().len(), 1);
    // The new one is made before the old one goes.
    let writes = tenant.writes();
    let at = |what: &str| writes.iter().rposition(|w| w.ends_with(what)).unwrap();
    assert!(at("addPassword") < at("removePassword"));
}

#[tokio::test]
async fn while_a_renewal_is_under_way_no_credential_is_touched() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let (_, first) = machine.run(&by_browser()).await.unwrap();
    let first = first.credential.unwrap();
    let mut renewed = first.clone();
    // The renewal has made another and put it in use; the first is kept for its overlap.
    tenant.with(|d| {
        let passwords = d.applications[0]["passwordCredentials"]
            .as_array_mut()
            .unwrap();
        let mut new = passwords[0].clone();
        renewed.key_id = "c0000000-0000-4000-8000-0000000000dd".to_owned();
        new["keyId"] = json!(renewed.key_id);
        new["displayName"] = json!("postrider alerts of-a-renewal");
        passwords.push(new);
    });
    machine.disk.lock().unwrap().known.credential = Some(renewed);
    tenant.writes();
    let meanwhile = Wanted {
        renewing: true,
        ..by_browser()
    };

    let (plan, _) = machine.run(&meanwhile).await.unwrap();

    assert!(plan.is_done(), "{:#?}", plan.steps);
    let mut findings = plan.findings.iter();
    assert!(findings.any(|f| f.text.contains("renewal")), "{plan:#?}");
    assert_eq!(tenant.writes(), Vec::<String>::new());

    // A credential that would have to be made has to wait.
    let expired = Wanted {
        now: "2027-12-01T00:00:00Z".parse().unwrap(),
        ..meanwhile
    };
    let blocked = machine.plan(&expired).await.unwrap().blocked().unwrap();
    assert!(blocked.to_string().contains("--finish"), "{blocked}");

    // Afterwards the one that it replaced is nobody's.
    let (_, done) = machine.run(&by_browser()).await.unwrap();
    assert_eq!(done.orphans[0].id, first.key_id);
}

#[tokio::test]
async fn from_secret_to_certificate_the_secret_goes() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine
        .run(&wanted(Flow::ClientCredentials, SECRET))
        .await
        .unwrap();

    let (_, done) = machine
        .run(&wanted(Flow::ClientCredentials, CERTIFICATE))
        .await
        .unwrap();

    assert_eq!(done.credential.unwrap().kind, SecretName::PrivateKey);
    let app = &tenant.applications("Postrider: alerts")[0];
    assert_eq!(app["passwordCredentials"], json!([]));
    assert_eq!(app["keyCredentials"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn steps_are_told_as_they_are_taken_and_nothing_else_is_done() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let graph = tenant.graph();
    let plan = machine.plan(&by_browser()).await.unwrap();
    let mut record = OnDisk {
        disk: machine.disk.clone(),
        fate: tenant.fate.clone(),
    };
    let mut told = Vec::new();

    apply(&graph, &plan, &mut record, &mut |progress| {
        told.push(match progress {
            Progress::Begins(step) => format!("{} …", step.id),
            Progress::Took(step) => format!("{} done", step.id),
        });
    })
    .await
    .unwrap();

    assert_eq!(told[0], "application …");
    assert_eq!(told[1], "application done");
    assert_eq!(told.len(), 2 * plan.steps.len());
    let writes = tenant.writes();
    let paths: Vec<&str> = writes
        .iter()
        .map(|w| w.split_once('/').unwrap().1)
        .collect();
    assert_eq!(paths[0], "applications");
    assert_eq!(paths[1], "servicePrincipals");
    assert_eq!(paths[2], "oauth2PermissionGrants");
    assert_eq!(paths[3], "oauth2PermissionGrants");
    assert!(paths[4].ends_with("/addPassword"));
    assert_eq!(paths.len(), 5);
}

#[tokio::test]
async fn another_tenant_is_begun_afresh_and_the_first_is_mentioned() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    {
        let known = &mut machine.disk.lock().unwrap().known;
        known.note(&Event::Began {
            tenant: "another".to_owned(),
        });
        known.note(&Event::CreatingApplication {
            mark: "m".to_owned(),
        });
    }

    let (plan, _) = machine.run(&by_browser()).await.unwrap();

    let finding = plan
        .findings
        .iter()
        .find(|f| f.text.contains("another tenant"))
        .unwrap();
    assert!(finding.cause.as_ref().unwrap().contains("may have left"));
    assert!(machine.known().application_marks.len() == 1);
}

#[tokio::test]
async fn wishes_that_contradict_each_other_are_told_before_anything_is_asked() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let long = CredentialKind::Secret {
        lifetime: YEAR * 11,
    };
    let bad = [
        wanted(Flow::ClientCredentials, CredentialKind::None),
        wanted(Flow::DeviceCode, SECRET),
        wanted(Flow::AuthorizationCode, long),
        Wanted {
            username: "nobody".to_owned(),
            ..by_browser()
        },
        Wanted {
            username: "a\n@contoso.com".to_owned(),
            ..by_browser()
        },
        Wanted {
            sender: Some("a b@contoso.com".to_owned()),
            ..by_browser()
        },
        Wanted {
            account: " ".to_owned(),
            ..by_browser()
        },
        Wanted {
            app: AppChoice::Named("x".repeat(121)),
            ..by_browser()
        },
        Wanted {
            own_renewal: true,
            ..wanted(Flow::AuthorizationCode, CredentialKind::None)
        },
    ];
    for wanted in bad {
        let error = machine.plan(&wanted).await.unwrap_err();
        assert!(matches!(error.kind, SetupErrorKind::Wanted(_)), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    assert!(tenant.with(|d| d.asked.is_empty()));
}

#[tokio::test]
async fn names_that_others_gave_do_not_reach_the_terminal_as_they_are() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    let app = made_by_hand(&tenant, "evil\u{1b}[2J\u{202e}");
    tenant.with(|d| {
        d.users[0]["mail"] = json!("a\u{1b}]0;x\u{7}@contoso.com");
        d.plans[0].1 = "EXCHANGE_S_\u{9b}1A".to_owned();
        let passwords = d.applications[0]["passwordCredentials"].as_array_mut();
        passwords.unwrap()[1]["displayName"] = json!("postrider \u{1b}c");
    });
    let wanted = Wanted {
        app: AppChoice::Existing(app["appId"].as_str().unwrap().to_owned()),
        ..by_browser()
    };

    let plan = machine.plan(&wanted).await.unwrap();

    let steps = plan.steps.iter().flat_map(|s| [&s.what, &s.why]);
    let findings = plan.findings.iter().map(|f| &f.text);
    for text in steps.chain(findings) {
        assert!(
            !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn a_journal_survives_as_json() {
    let machine = Machine::new(&Tenant::new());
    machine.run(&on_its_own()).await.unwrap();
    let known = machine.known();

    let text = serde_json::to_string(&known).unwrap();

    assert_eq!(serde_json::from_str::<Known>(&text).unwrap(), known);
    assert!(!text.contains("secret-0"));
}
