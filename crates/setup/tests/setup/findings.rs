//! What is told of prerequisites: the cause, the remedy, and who can apply it.

use postrider_graph::ids::directory_role;
use postrider_setup::{
    CredentialKind, Finding, Flow, Plan, SetupErrorKind, Severity, State, Topic, Wanted, Who,
};
use serde_json::json;

use crate::record::{Machine, SECRET, by_browser, on_its_own, wanted};
use crate::tenant::{Directory, Tenant, USER, plan};

async fn look(change: impl FnOnce(&mut Directory), wanted: &Wanted) -> Plan {
    let tenant = Tenant::new();
    tenant.with(change);
    let plan = Machine::new(&tenant).plan(wanted).await.unwrap();
    assert_eq!(tenant.writes(), [""; 0]);
    plan
}

fn about(plan: &Plan, topic: Topic) -> Vec<&Finding> {
    plan.findings.iter().filter(|f| f.topic == topic).collect()
}

fn app_only() -> Wanted {
    wanted(Flow::ClientCredentials, SECRET)
}

#[tokio::test]
async fn all_is_well_in_a_tenant_where_it_is() {
    let plan = look(|_| {}, &by_browser()).await;

    for finding in &plan.findings {
        assert_eq!(finding.severity, Severity::Ok, "{finding:?}");
    }
    assert!(plan.blocked().is_none());
}

#[tokio::test]
async fn each_state_of_the_mailbox_is_told_for_what_it_is() {
    const FOUNDATION: &str = "113feb6c-3fe4-4440-bddc-54d774bf0318";
    const ARCHIVE: &str = "da040e0a-b393-4bea-bb76-928b3fa1cf5a";
    const STANDARD: &str = "9aaf7827-d63c-4b61-89c3-182f06f82e5c";
    let cases = [
        (
            vec![plan(STANDARD, "EXCHANGE_S_STANDARD", "Success")],
            Severity::Ok,
            Severity::Ok,
        ),
        (
            vec![plan(STANDARD, "EXCHANGE_S_STANDARD", "PendingProvisioning")],
            Severity::Warn,
            Severity::Warn,
        ),
        (
            vec![plan(STANDARD, "EXCHANGE_S_STANDARD", "Disabled")],
            Severity::Blocks,
            Severity::Blocks,
        ),
        (
            vec![plan(STANDARD, "EXCHANGE_S_STANDARD", "Error")],
            Severity::Blocks,
            Severity::Blocks,
        ),
        (
            vec![plan(FOUNDATION, "EXCHANGE_S_FOUNDATION", "Success")],
            Severity::Blocks,
            Severity::Warn,
        ),
        (
            vec![plan(ARCHIVE, "EXCHANGE_S_ARCHIVE", "Success")],
            Severity::Blocks,
            Severity::Warn,
        ),
        (vec![], Severity::Blocks, Severity::Warn),
        (
            vec![
                plan(FOUNDATION, "EXCHANGE_S_FOUNDATION", "Success"),
                plan(STANDARD, "EXCHANGE_S_STANDARD", "Success"),
            ],
            Severity::Ok,
            Severity::Ok,
        ),
    ];
    for (plans, delegated, on_its_own) in cases {
        for (wanted, expected) in [(by_browser(), delegated), (app_only(), on_its_own)] {
            let plan = look(|d| d.plans.clone_from(&plans), &wanted).await;
            let [finding] = about(&plan, Topic::Mailbox)[..] else {
                panic!("{:?}", plan.findings);
            };
            assert_eq!(finding.severity, expected, "{plans:?}: {finding:?}");
            if expected != Severity::Ok {
                assert!(finding.cause.is_some() && finding.remedy.is_some());
                assert!(finding.who.is_some());
            }
        }
    }
}

#[tokio::test]
async fn a_plan_that_is_no_mailbox_is_named() {
    let foundation = plan(
        "113feb6c-3fe4-4440-bddc-54d774bf0318",
        "EXCHANGE_S_FOUNDATION",
        "Success",
    );

    let plan = look(|d| d.plans = vec![foundation], &by_browser()).await;

    let finding = about(&plan, Topic::Mailbox)[0];
    assert_eq!(
        finding.text,
        format!("{USER} has EXCHANGE_S_FOUNDATION, which is no mailbox")
    );
    assert_eq!(finding.who, Some(Who::UserAdministrator));
    let blocked = plan.blocked().unwrap();
    assert!(matches!(blocked.kind, SetupErrorKind::Blocked { .. }));
}

#[tokio::test]
async fn a_shared_mailbox_needs_no_licence_but_cannot_sign_in() {
    let shared = |d: &mut Directory| {
        d.plans.clear();
        d.users[0]["accountEnabled"] = json!(false);
    };

    let by_person = look(shared, &by_browser()).await;
    let by_itself = look(shared, &app_only()).await;

    assert!(by_person.blocked().is_some());
    let remedy = about(&by_person, Topic::User)[0].remedy.clone().unwrap();
    assert!(remedy.contains("as the sender"), "{remedy}");
    assert!(by_itself.blocked().is_none());
    let cause = about(&by_itself, Topic::Mailbox)[0].cause.clone().unwrap();
    assert!(cause.contains("shared mailbox"), "{cause}");
}

#[tokio::test]
async fn a_user_who_is_not_there_is_misspelled_a_guest_or_elsewhere() {
    let named = |name: &str| Wanted {
        username: name.to_owned(),
        ..by_browser()
    };
    let guest = "someone_example.org#EXT#@contoso.onmicrosoft.com";

    let misspelled = look(|_| {}, &named("svc-mial@contoso.com")).await;
    let elsewhere = look(|_| {}, &named("someone@example.org")).await;
    let guest = look(
        |d| d.users[0]["userPrincipalName"] = json!(guest),
        &named(guest),
    )
    .await;

    let text = |plan: &Plan| {
        let finding = about(plan, Topic::User)[0].clone();
        assert_eq!(finding.severity, Severity::Blocks);
        format!("{}: {}", finding.text, finding.cause.unwrap())
    };
    assert!(text(&misspelled).contains("no user principal name is spelled like this"));
    assert!(text(&elsewhere).contains("example.org is not a domain of this tenant"));
    assert!(text(&guest).contains("is a guest in this tenant"));
}

#[tokio::test]
async fn roles_are_held_against_what_is_to_be_made() {
    use directory_role::{
        APPLICATION_ADMINISTRATOR, CLOUD_APPLICATION_ADMINISTRATOR, EXCHANGE_ADMINISTRATOR,
        GLOBAL_ADMINISTRATOR, PRIVILEGED_ROLE_ADMINISTRATOR,
    };
    let cases: [(&[&str], Severity, Severity); 7] = [
        (&[GLOBAL_ADMINISTRATOR], Severity::Ok, Severity::Ok),
        (
            &[PRIVILEGED_ROLE_ADMINISTRATOR],
            Severity::Warn,
            Severity::Warn,
        ),
        (&[APPLICATION_ADMINISTRATOR], Severity::Ok, Severity::Blocks),
        (
            &[CLOUD_APPLICATION_ADMINISTRATOR],
            Severity::Ok,
            Severity::Blocks,
        ),
        (
            &[EXCHANGE_ADMINISTRATOR],
            Severity::Blocks,
            Severity::Blocks,
        ),
        (&[], Severity::Blocks, Severity::Blocks),
        // Perhaps one that the organisation made for this.
        (
            &["0a000000-0000-4000-8000-000000000001"],
            Severity::Warn,
            Severity::Warn,
        ),
    ];
    for (roles, for_secret, for_renewal) in cases {
        for (wanted, expected) in [(app_only(), for_secret), (on_its_own(), for_renewal)] {
            let plan = look(
                |d| d.roles = roles.iter().map(|r| Some((*r).to_owned())).collect(),
                &wanted,
            )
            .await;
            let finding = about(&plan, Topic::Roles)[0];
            assert_eq!(finding.severity, expected, "{roles:?}: {finding:?}");
            let cannot = plan
                .steps
                .iter()
                .any(|step| matches!(step.state, State::Cannot { .. }));
            assert_eq!(cannot, expected == Severity::Blocks, "{roles:?}");
            assert_eq!(plan.blocked().is_some(), cannot);
        }
    }
}

#[tokio::test]
async fn roles_that_graph_does_not_tell_are_read_from_the_token() {
    let hidden = |d: &mut Directory| d.roles = vec![None];
    let told = Wanted {
        roles_in_token: Some(vec![directory_role::GLOBAL_ADMINISTRATOR.to_owned()]),
        ..by_browser()
    };

    let untold = look(hidden, &by_browser()).await;
    let told = look(hidden, &told).await;

    assert_eq!(about(&untold, Topic::Roles)[0].severity, Severity::Warn);
    assert_eq!(about(&told, Topic::Roles)[0].severity, Severity::Ok);
}

#[tokio::test]
async fn who_is_no_exchange_administrator_hands_the_lines_on() {
    let plan = look(
        |d| d.roles = vec![Some(directory_role::APPLICATION_ADMINISTRATOR.to_owned())],
        &by_browser(),
    )
    .await;

    let finding = about(&plan, Topic::Roles)[1];
    assert_eq!(finding.who, Some(Who::ExchangeAdministrator));
    assert_eq!(finding.severity, Severity::Warn);
}

#[tokio::test]
async fn device_codes_come_with_a_warning() {
    let device = wanted(Flow::DeviceCode, CredentialKind::None);

    let defaults = look(|d| d.security_defaults = true, &device).await;
    let without = look(|_| {}, &device).await;
    let browser = look(|d| d.security_defaults = true, &by_browser()).await;

    let cause = |plan: &Plan| about(plan, Topic::Policies)[0].cause.clone().unwrap();
    assert!(cause(&defaults).contains("530035"));
    assert!(cause(&without).contains("53003"));
    assert_eq!(about(&browser, Topic::Policies)[0].severity, Severity::Ok);
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_said_and_is_not_the_end() {
    let tenant = Tenant::new();
    tenant.with(|d| {
        d.denied = vec!["/users", "/policies", "/me/transitiveMemberOf"];
    });

    let (plan, _) = Machine::new(&tenant).run(&by_browser()).await.unwrap();

    for topic in [Topic::User, Topic::Policies, Topic::Roles] {
        let finding = about(&plan, topic)[0];
        assert_eq!(finding.severity, Severity::Warn);
        assert!(finding.cause.is_some(), "{finding:?}");
    }
}

#[tokio::test]
async fn a_refusal_in_the_midst_names_its_step_and_what_it_needs() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    tenant.with(|d| d.denied = vec!["/servicePrincipals/c"]);

    let error = machine.run(&app_only()).await.unwrap_err();

    assert!(error.step.is_some());
    let graph = error.graph_error().unwrap();
    assert_eq!(graph.status, Some(403));
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn a_tenant_without_exchange_is_told() {
    let plan = look(
        |d| {
            d.principals.remove(0);
        },
        &by_browser(),
    )
    .await;

    let finding = about(&plan, Topic::Exchange)[0];
    assert_eq!(finding.severity, Severity::Blocks);
    assert!(plan.blocked().is_some());
}

#[tokio::test]
async fn a_sender_is_looked_for_and_its_right_named() {
    let from = |sender: &str, on_behalf| Wanted {
        sender: Some(sender.to_owned()),
        on_behalf,
        ..by_browser()
    };
    let there = |d: &mut Directory| {
        let mut shared = d.users[0].clone();
        shared["userPrincipalName"] = json!("alerts@contoso.com");
        d.users.push(shared);
    };

    let same = look(|_| {}, &from("SVC-mail@contoso.com", false)).await;
    let as_it = look(there, &from("alerts@contoso.com", false)).await;
    let on_behalf = look(there, &from("alerts@contoso.com", true)).await;
    let missing = look(|_| {}, &from("alerst@contoso.com", false)).await;

    assert!(about(&same, Topic::Sender).is_empty());
    assert!(about(&as_it, Topic::Sender)[0].text.contains("Send As"));
    assert!(
        about(&on_behalf, Topic::Sender)[0]
            .text
            .contains("Send on Behalf")
    );
    assert!(
        about(&missing, Topic::Sender)[0]
            .text
            .contains("no user or shared mailbox")
    );
}

#[tokio::test]
async fn an_application_that_is_switched_off_or_closed_is_told() {
    let tenant = Tenant::new();
    let machine = Machine::new(&tenant);
    machine.run(&by_browser()).await.unwrap();
    tenant.with(|d| {
        let ours = d.principals.last_mut().unwrap();
        ours["appRoleAssignmentRequired"] = json!(true);
        ours["accountEnabled"] = json!(false);
    });

    let plan = machine.plan(&by_browser()).await.unwrap();

    let texts: Vec<&str> = about(&plan, Topic::Policies)
        .iter()
        .map(|f| f.text.as_str())
        .collect();
    assert!(texts.contains(&"Signing in to the application is switched off"));
    assert!(texts.contains(&"Only users who are assigned to the application may sign in to it"));
}

#[tokio::test]
async fn a_credential_that_ends_soon_is_told() {
    let machine = Machine::new(&Tenant::new());
    machine.run(&by_browser()).await.unwrap();
    let later = Wanted {
        now: "2027-11-01T00:00:00Z".parse().unwrap(),
        ..by_browser()
    };

    let plan = machine.plan(&later).await.unwrap();

    let finding = about(&plan, Topic::Expiry)[0];
    assert_eq!(finding.text, "The credential expires on 2027-11-23");
    assert_eq!(
        finding.remedy.as_deref(),
        Some("postrider rotate --client-secret alerts")
    );
    assert!(plan.is_done());
}
