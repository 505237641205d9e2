//! The client against the offline Graph: the same calls, over HTTPS, with tokens that Entra
//! issued and Graph checks.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod site;

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan as _};
use postrider_graph::{
    Application, ApplicationPatch, Consent, Graph, GraphErrorKind, Mailbox, NewApplication,
    NewCertificate, PermissionKind, RequiredAccess, RequiredPermission, ids, mailbox_plan,
};
use postrider_sandbox::scenario::{
    App, DirectoryRole, Effect, Fault, FaultPoint, Guid, HttpAnswer, ProvisioningStatus, Scenario,
    ServicePlan,
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use rsa::pkcs8::EncodePrivateKey as _;
use rustls_pki_types::PrivatePkcs8KeyDer;
use secrecy::ExposeSecret as _;

use site::{ADMIN, EVERYTHING, SOMEBODY, Site};

fn wanted() -> NewApplication {
    let permission = |id: &str, kind| RequiredPermission {
        id: id.to_owned(),
        kind,
    };
    NewApplication {
        display_name: "Postrider: o'alerts & co".to_owned(),
        notes: Some("made by a test".to_owned()),
        tags: vec!["postrider-setup-1".to_owned()],
        fallback_public_client: false,
        public_redirects: Vec::new(),
        web_redirects: vec!["http://localhost".to_owned()],
        required: vec![RequiredAccess {
            resource_app_id: ids::resource::EXCHANGE_ONLINE.to_owned(),
            resource_access: vec![
                permission(ids::scope::EXCHANGE_SMTP_SEND, PermissionKind::Scope),
                permission(ids::role::EXCHANGE_SMTP_SEND_AS_APP, PermissionKind::Role),
            ],
        }],
    }
}

/// An application with its service principal, and Exchange's.
async fn set_up(graph: &Graph) -> (Application, String, String) {
    let app = graph.create_application(&wanted()).await.unwrap();
    let principal = graph.create_service_principal(&app.app_id).await.unwrap();
    let exchange = graph
        .service_principal(ids::resource::EXCHANGE_ONLINE)
        .await
        .unwrap()
        .unwrap();
    (app, principal.id, exchange.id)
}

fn in_a_year(site: &Site) -> Timestamp {
    site.sandbox.state().now() + (365 * 24).hours()
}

#[tokio::test]
async fn an_administrator_sees_the_tenant() {
    let site = Site::start().await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let me = graph.me().await.unwrap();
    assert_eq!(me.user_principal_name, ADMIN);
    let somebody = graph.user(SOMEBODY).await.unwrap();
    assert_eq!(somebody.account_enabled, Some(true));
    assert_eq!(graph.user(&somebody.id).await.unwrap(), somebody);
    let error = graph.user("nobody@contoso.com").await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::NotFound);
    let organization = graph.organization().await.unwrap();
    let default: Vec<_> = organization
        .verified_domains
        .iter()
        .filter(|domain| domain.is_default)
        .collect();
    assert_eq!(default.len(), 1);
    assert!(!graph.security_defaults().await.unwrap());
    let roles = graph.my_directory_roles().await.unwrap();
    assert_eq!(
        roles[0].role_template_id.as_deref(),
        Some(ids::directory_role::GLOBAL_ADMINISTRATOR)
    );
    let plans = graph.license_details(Some(SOMEBODY)).await.unwrap();
    let plan = Mailbox::Provisioned("EXCHANGE_S_STANDARD".to_owned());
    assert_eq!(mailbox_plan(&plans), plan);
}

#[tokio::test]
async fn the_fixed_ids_are_those_of_the_services() {
    let site = Site::start().await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let exchange = graph.resource(ids::resource::EXCHANGE_ONLINE).await;
    let exchange = exchange.unwrap().unwrap();
    let graphs = graph.resource(ids::resource::GRAPH).await.unwrap().unwrap();
    for (service, kind, id, name) in [
        (
            &exchange,
            PermissionKind::Scope,
            ids::scope::EXCHANGE_SMTP_SEND,
            "SMTP.Send",
        ),
        (
            &exchange,
            PermissionKind::Role,
            ids::role::EXCHANGE_SMTP_SEND_AS_APP,
            "SMTP.SendAsApp",
        ),
        (
            &graphs,
            PermissionKind::Scope,
            ids::scope::GRAPH_SMTP_SEND,
            "SMTP.Send",
        ),
        (
            &graphs,
            PermissionKind::Scope,
            ids::scope::USER_READ,
            "User.Read",
        ),
        (&graphs, PermissionKind::Scope, ids::scope::OPENID, "openid"),
        (
            &graphs,
            PermissionKind::Scope,
            ids::scope::PROFILE,
            "profile",
        ),
        (
            &graphs,
            PermissionKind::Scope,
            ids::scope::OFFLINE_ACCESS,
            "offline_access",
        ),
        (
            &graphs,
            PermissionKind::Scope,
            ids::scope::MAIL_SEND,
            "Mail.Send",
        ),
        (
            &graphs,
            PermissionKind::Role,
            ids::role::MAIL_SEND,
            "Mail.Send",
        ),
    ] {
        assert_eq!(service.permission(kind, name).unwrap().id, id, "{name}");
        assert_eq!(service.permission_by_id(kind, id).unwrap().value, name);
    }
    // Not among the fixed ones: found by its name.
    let owned_by = graphs.permission(PermissionKind::Role, "Application.ReadWrite.OwnedBy");
    assert!(owned_by.is_some());
}

#[tokio::test]
async fn an_account_gets_what_it_needs_although_nothing_shows_at_once() {
    let site = Site::with(|scenario| scenario.graph.propagation_requests = Some(2)).await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let (app, principal, exchange) = set_up(&graph).await;
    let grant = graph
        .grant_delegated(
            &principal,
            &exchange,
            &Consent::AllPrincipals,
            &["SMTP.Send"],
        )
        .await
        .unwrap();
    graph
        .assign_app_role(&principal, &exchange, ids::role::EXCHANGE_SMTP_SEND_AS_APP)
        .await
        .unwrap();
    graph.add_owner(&app.id, &principal).await.unwrap();
    assert!(!site.pauses().is_empty(), "nothing was late");

    let found = graph.application(&app.app_id).await.unwrap().unwrap();
    assert_eq!(found, app);
    assert_eq!(found.required, wanted().required);
    assert_eq!(found.web_redirects, ["http://localhost"]);
    let named = graph
        .applications_named("Postrider: o'alerts & co")
        .await
        .unwrap();
    assert_eq!(named, std::slice::from_ref(&app));
    let grants = graph.delegated_grants(&principal).await.unwrap();
    assert_eq!(grants, [grant]);
    assert!(grants[0].covers(None, ["SMTP.Send"]));
    let assigned = graph.app_role_assignments(&principal).await.unwrap();
    assert_eq!(
        assigned[0].app_role_id,
        ids::role::EXCHANGE_SMTP_SEND_AS_APP
    );
    assert_eq!(assigned[0].resource_id, exchange);
    let owners = graph.owners(&app.id).await.unwrap();
    assert!(owners.iter().any(|owner| owner.id == principal));

    let patch = ApplicationPatch {
        fallback_public_client: Some(true),
        public_redirects: Some(vec!["http://localhost".to_owned()]),
        ..ApplicationPatch::default()
    };
    graph.update_application(&app.id, &patch).await.unwrap();
    let changed = graph.application_object(&app.id).await.unwrap();
    assert!(changed.fallback_public_client);
    assert_eq!(changed.public_redirects, ["http://localhost"]);
    assert_eq!(changed.web_redirects, app.web_redirects);

    graph.delete_application(&app.id).await.unwrap();
    graph.delete_application(&app.id).await.unwrap();
    assert_eq!(graph.application(&app.app_id).await.unwrap(), None);
}

#[tokio::test]
async fn a_secret_signs_in_until_it_is_removed() {
    let site = Site::start().await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let (app, principal, exchange) = set_up(&graph).await;
    graph
        .assign_app_role(&principal, &exchange, ids::role::EXCHANGE_SMTP_SEND_AS_APP)
        .await
        .unwrap();
    let ends = in_a_year(&site);
    let made = graph
        .add_password(&app.id, "postrider 1", ends)
        .await
        .unwrap();
    assert_eq!(made.ends.unwrap().as_second(), ends.as_second());
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &app.app_id),
        ("client_secret", made.secret_text.expose_secret()),
        ("scope", "https://outlook.office365.com/.default"),
    ];
    let token = site.token(&form).await;
    assert!(token["access_token"].is_string(), "{token}");

    // A token for Exchange is none for Graph.
    let error = site.graph(&token).organization().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Unauthenticated);
    assert!(
        error.code.is_some() && error.request_id.is_some(),
        "{error:?}"
    );

    let shown = graph.application_object(&app.id).await.unwrap().passwords;
    assert_eq!(shown[0].key_id, made.key_id);
    assert_eq!(shown[0].display_name.as_deref(), Some("postrider 1"));
    assert_eq!(shown[0].hint, made.hint);
    graph.remove_password(&app.id, &made.key_id).await.unwrap();
    graph.remove_password(&app.id, &made.key_id).await.unwrap();
    let refused = site.token(&form).await;
    assert_eq!(refused["error_codes"][0], 7_000_215, "{refused}");
}

#[tokio::test]
async fn an_application_renews_its_own_secret_and_no_others() {
    let site = Site::start().await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let (app, principal, _) = set_up(&graph).await;
    let (other, _, _) = set_up(&graph).await;
    let graphs = graph.resource(ids::resource::GRAPH).await.unwrap().unwrap();
    let owned_by = graphs
        .permission(PermissionKind::Role, "Application.ReadWrite.OwnedBy")
        .unwrap();
    graph
        .assign_app_role(&principal, &graphs.id, &owned_by.id)
        .await
        .unwrap();
    graph.add_owner(&app.id, &principal).await.unwrap();
    let ends = in_a_year(&site);
    let old = graph.add_password(&app.id, "old", ends).await.unwrap();
    let token = site
        .token(&[
            ("grant_type", "client_credentials"),
            ("client_id", &app.app_id),
            ("client_secret", old.secret_text.expose_secret()),
            ("scope", "https://graph.microsoft.com/.default"),
        ])
        .await;
    let own = site.graph(&token);
    let new = own.add_password(&app.id, "new", ends).await.unwrap();
    own.remove_password(&app.id, &old.key_id).await.unwrap();
    let left = own.application_object(&app.id).await.unwrap().passwords;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key_id, new.key_id);
    let error = own.add_password(&other.id, "new", ends).await.unwrap_err();
    assert!(
        matches!(error.kind, GraphErrorKind::Denied { .. }),
        "{error}"
    );
    // There is nobody that `/me` could mean.
    assert_eq!(own.me().await.unwrap_err().kind, GraphErrorKind::Rejected);
}

#[tokio::test]
async fn certificates_come_and_go_beside_each_other() {
    let site = Site::with(|scenario| scenario.graph.propagation_requests = Some(1)).await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let app = graph.create_application(&wanted()).await.unwrap();
    let now = site.sandbox.state().now();
    let key = rsa_key();
    let certificate = |name: &str| NewCertificate {
        der: self_signed(&key, name),
        display_name: name.to_owned(),
        starts: now,
        ends: now + 24.hours(),
    };
    let (first, second) = (certificate("first"), certificate("second"));
    let one = graph.add_certificate(&app.id, &first).await.unwrap();
    let two = graph.add_certificate(&app.id, &second).await.unwrap();
    assert_ne!(one.key_id, two.key_id);
    assert_eq!(two.display_name.as_deref(), Some("second"));
    let again = graph.add_certificate(&app.id, &first).await.unwrap();
    assert_eq!(again.key_id, one.key_id);
    graph
        .remove_certificate(&app.id, &one.key_id)
        .await
        .unwrap();
    graph
        .remove_certificate(&app.id, &one.key_id)
        .await
        .unwrap();
    let left = graph
        .application_object(&app.id)
        .await
        .unwrap()
        .certificates;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key_id, two.key_id);
}

#[tokio::test]
async fn what_is_there_already_is_a_conflict() {
    let site = Site::start().await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let (app, principal, exchange) = set_up(&graph).await;
    let error = graph
        .create_service_principal(&app.app_id)
        .await
        .unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Conflict, "{error}");
    let role = ids::role::EXCHANGE_SMTP_SEND_AS_APP;
    let everybody = Consent::AllPrincipals;
    for first in [true, false] {
        let outcomes = [
            graph
                .grant_delegated(&principal, &exchange, &everybody, &["SMTP.Send"])
                .await
                .err(),
            graph
                .assign_app_role(&principal, &exchange, role)
                .await
                .err(),
            graph.add_owner(&app.id, &principal).await.err(),
        ];
        for outcome in outcomes {
            let kind = outcome.map(|error| error.kind);
            assert_eq!(kind, (!first).then_some(GraphErrorKind::Conflict));
        }
    }
}

#[tokio::test]
async fn nobody_does_what_the_token_or_the_person_may_not() {
    let site = Site::start().await;
    let graph = site.graph_as(SOMEBODY, "User.Read").await;
    assert_eq!(graph.me().await.unwrap().user_principal_name, SOMEBODY);
    assert!(!graph.license_details(None).await.unwrap().is_empty());
    let error = graph.create_application(&wanted()).await.unwrap_err();
    let needs = Some("Application.ReadWrite.All");
    assert_eq!(error.kind, GraphErrorKind::Denied { needs });
    assert_eq!(error.code.as_deref(), Some("Authorization_RequestDenied"));
    for denied in [
        graph.user(ADMIN).await.err(),
        graph.security_defaults().await.err(),
        graph.service_principal(ids::resource::GRAPH).await.err(),
        graph.applications_named("x").await.err(),
    ] {
        let denied = denied.unwrap();
        let is_denied = matches!(denied.kind, GraphErrorKind::Denied { needs: Some(_) });
        assert!(is_denied, "{denied}");
    }
    // An administrator whose token may only look does not change anything either.
    let graph = site.graph_as(ADMIN, "Application.Read.All").await;
    let error = graph.create_application(&wanted()).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Denied { needs });
}

#[tokio::test]
async fn what_a_licence_lacks_is_told() {
    use ProvisioningStatus::{Disabled, Error, PendingInput, Success};
    let plan = |name: &str, status| ServicePlan {
        status,
        ..ServicePlan::new(name)
    };
    for (plans, mailbox) in [
        (vec![], Mailbox::None),
        (
            vec![plan("EXCHANGE_S_FOUNDATION", Success)],
            Mailbox::NotAMailbox("EXCHANGE_S_FOUNDATION".to_owned()),
        ),
        (
            vec![plan("EXCHANGE_S_ENTERPRISE", Disabled)],
            Mailbox::Disabled("EXCHANGE_S_ENTERPRISE".to_owned()),
        ),
        (
            vec![plan("EXCHANGE_S_ENTERPRISE", Error)],
            Mailbox::Failed("EXCHANGE_S_ENTERPRISE".to_owned()),
        ),
        (
            vec![
                plan("TEAMS1", Success),
                plan("EXCHANGE_S_DESKLESS", PendingInput),
            ],
            Mailbox::Pending("EXCHANGE_S_DESKLESS".to_owned()),
        ),
    ] {
        let site = Site::with(|scenario| user(scenario, SOMEBODY).plans = Some(plans)).await;
        let graph = site.graph_as(SOMEBODY, "User.Read").await;
        let plans = graph.license_details(None).await.unwrap();
        assert_eq!(mailbox_plan(&plans), mailbox);
    }
}

#[tokio::test]
async fn directory_roles_are_told_by_their_templates() {
    let site = Site::with(|scenario| {
        let roles = &mut user(scenario, SOMEBODY).roles;
        roles.push(DirectoryRole::CloudApplicationAdministrator);
        roles.push(DirectoryRole::ExchangeAdministrator);
    })
    .await;
    let graph = site.graph_as(ADMIN, "RoleManagement.Read.Directory").await;
    assert_eq!(graph.my_directory_roles().await.unwrap().len(), 1);
    // Under User.Read alone there are roles, and not which (facts C3).
    let graph = site.graph_as(SOMEBODY, "User.Read").await;
    let roles = graph.my_directory_roles().await.unwrap();
    assert_eq!(roles.len(), 2);
    assert!(roles.iter().all(|role| role.role_template_id.is_none()));
}

#[tokio::test]
async fn a_list_of_several_pages_is_read_whole() {
    let site = Site::with(|scenario| {
        let tenant = scenario.tenants[0].id.as_str().to_owned();
        scenario.apps.extend((0..250).map(|n| {
            let id = format!("00000000-0000-4000-8000-{n:012}");
            App::new(Guid::parse(&id).unwrap(), "one of many", tenant.as_str())
        }));
    })
    .await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let found = graph.applications_named("one of many").await.unwrap();
    let ids: BTreeSet<_> = found.iter().map(|app| &app.app_id).collect();
    assert_eq!(ids.len(), 250);
}

#[tokio::test]
async fn a_busy_graph_is_waited_for() {
    let busy = |status| Fault {
        times: Some(2),
        ..Fault::new(
            FaultPoint::Graph,
            Effect::Http(HttpAnswer {
                status,
                retry_after: Some(7),
                ..HttpAnswer::default()
            }),
        )
    };
    let site = Site::with(|scenario| scenario.faults = vec![busy(429), busy(503)]).await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    graph.create_application(&wanted()).await.unwrap();
    assert_eq!(site.pauses(), [7, 7, 7, 7]);
}

#[tokio::test]
async fn an_application_of_a_lost_answer_is_found_by_its_mark() {
    let lost = Fault {
        times: Some(1),
        only_for: Some("POST applications".to_owned()),
        ..Fault::new(FaultPoint::Graph, Effect::LoseReply)
    };
    let site = Site::with(|scenario| scenario.faults = vec![lost]).await;
    let graph = site.graph_as(ADMIN, EVERYTHING).await;
    let error = graph.create_application(&wanted()).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Transport);
    assert!(error.may_have_happened);
    let found = graph
        .applications_named_soon("Postrider: o'alerts & co")
        .await
        .unwrap();
    assert_eq!(found[0].tags, ["postrider-setup-1"]);
}

/// Entra takes signatures of RSA keys only.
fn rsa_key() -> KeyPair {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let key = key.to_pkcs8_der().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.as_bytes());
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_RSA_SHA256).unwrap()
}

fn self_signed(key: &KeyPair, name: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(key).unwrap().der().to_vec()
}

fn user<'a>(scenario: &'a mut Scenario, upn: &str) -> &'a mut postrider_sandbox::scenario::User {
    let mut users = scenario.users.iter_mut();
    users.find(|user| user.upn == upn).unwrap()
}
