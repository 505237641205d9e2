//! Every call: the requests as sent, the answers as read.

use jiff::Timestamp;
use postrider_graph::{
    ApplicationPatch, Consent, DelegatedGrant, Mailbox, NewApplication, PermissionKind,
    ProvisioningStatus, RequiredAccess, RequiredPermission, ids, mailbox_plan,
};
use serde_json::{Value, json};

use crate::script::{answer, done, ok, refused, scripted};

const APP: &str = "0f1e2d3c-0000-4000-8000-00000000a001";
const OBJECT: &str = "0f1e2d3c-0000-4000-8000-00000000b001";
const PRINCIPAL: &str = "0f1e2d3c-0000-4000-8000-00000000c001";
const EXCHANGE: &str = "0f1e2d3c-0000-4000-8000-00000000d001";
const USER: &str = "0f1e2d3c-0000-4000-8000-00000000e001";
const KEY: &str = "0f1e2d3c-0000-4000-8000-00000000f001";
const APPLICATION_SELECT: &str = "id%2CappId%2CdisplayName%2Cnotes%2Ctags%2CsignInAudience%2C\
    isFallbackPublicClient%2CpublicClient%2Cweb%2CrequiredResourceAccess%2C\
    passwordCredentials%2CkeyCredentials";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn application() -> Value {
    json!({
        "@odata.context": "https://graph.example/v1.0/$metadata#applications/$entity",
        "id": OBJECT,
        "appId": APP,
        "displayName": "Postrider: alerts",
        "notes": null,
        "tags": ["postrider"],
        "signInAudience": "AzureADMyOrg",
        "isFallbackPublicClient": null,
        "publicClient": { "redirectUris": ["http://localhost"] },
        "web": { "redirectUris": [], "homePageUrl": null },
        "requiredResourceAccess": [{
            "resourceAppId": ids::resource::EXCHANGE_ONLINE,
            "resourceAccess": [{ "id": ids::scope::EXCHANGE_SMTP_SEND, "type": "Scope" }],
        }],
        "passwordCredentials": [{
            "customKeyIdentifier": null,
            "displayName": "postrider 1",
            "endDateTime": "2028-11-23T16:00:00Z",
            "hint": "abc",
            "keyId": KEY,
            "secretText": null,
            "startDateTime": "2026-11-23T16:00:00Z",
        }],
        "keyCredentials": [],
    })
}

#[tokio::test]
async fn who_is_signed_in_is_read_with_little() {
    let (graph, script) = scripted([ok(&json!({
        "id": USER, "userPrincipalName": "svc@contoso.com", "mail": null, "displayName": "Svc",
    }))]);
    let me = graph.me().await.unwrap();
    assert_eq!(me.user_principal_name, "svc@contoso.com");
    assert_eq!((me.mail, me.account_enabled), (None, None));
    assert_eq!(
        script.sent(),
        ["GET /v1.0/me?$select=id%2CuserPrincipalName%2Cmail%2CdisplayName"]
    );
}

#[tokio::test]
async fn a_guest_is_named_within_one_segment_of_the_path() {
    let (graph, script) = scripted([ok(&json!({
        "id": USER, "userPrincipalName": "a_b.example#EXT#@contoso.com",
        "mail": "a@b.example", "accountEnabled": false,
    }))]);
    let user = graph.user("a_b.example#EXT#@contoso.com").await.unwrap();
    assert_eq!(user.account_enabled, Some(false));
    assert_eq!(
        script.sent(),
        ["GET /v1.0/users/a_b.example%23EXT%23@contoso.com\
          ?$select=id%2CuserPrincipalName%2Cmail%2CdisplayName%2CaccountEnabled"]
    );
}

#[tokio::test]
async fn licences_become_their_service_plans() {
    let licences = json!({ "value": [
        { "id": "x", "skuId": "y", "skuPartNumber": "O365_BUSINESS_ESSENTIALS", "servicePlans": [
            { "servicePlanId": "9AAF7827-d63c-4b61-89c3-182f06f82e5c",
              "servicePlanName": "EXCHANGE_S_STANDARD",
              "provisioningStatus": "PendingProvisioning", "appliesTo": "User" },
            { "servicePlanId": "113feb6c-3fe4-4440-bddc-54d774bf0318",
              "servicePlanName": "EXCHANGE_S_FOUNDATION",
              "provisioningStatus": "PendingDetonation", "appliesTo": "Company" },
        ]},
    ]});
    let (graph, script) = scripted([ok(&licences), ok(&licences)]);
    let plans = graph.license_details(None).await.unwrap();
    assert_eq!(plans[0].id, "9aaf7827-d63c-4b61-89c3-182f06f82e5c");
    assert_eq!(
        plans[1].status,
        ProvisioningStatus::Other("PendingDetonation".into())
    );
    assert_eq!(
        mailbox_plan(&plans),
        Mailbox::Pending("EXCHANGE_S_STANDARD".into())
    );
    graph
        .license_details(Some("svc@contoso.com"))
        .await
        .unwrap();
    assert_eq!(
        script.sent(),
        [
            "GET /v1.0/me/licenseDetails",
            "GET /v1.0/users/svc@contoso.com/licenseDetails"
        ]
    );
}

#[tokio::test]
async fn roles_without_a_readable_template_are_roles_still() {
    let (graph, script) = scripted([ok(&json!({ "@odata.count": 2, "value": [
        { "id": "r1", "displayName": "Global Administrator",
          "roleTemplateId": "62E90394-69f5-4237-9190-012177145e10" },
        { "id": "r2", "displayName": null, "roleTemplateId": null },
    ]}))]);
    let roles = graph.my_directory_roles().await.unwrap();
    assert_eq!(
        roles[0].role_template_id.as_deref(),
        Some(ids::directory_role::GLOBAL_ADMINISTRATOR)
    );
    assert_eq!(roles[1].role_template_id, None);
    assert_eq!(
        script.sent(),
        [
            "GET /v1.0/me/transitiveMemberOf/microsoft.graph.directoryRole?$count=true \
          ConsistencyLevel: eventual"
        ]
    );
}

#[tokio::test]
async fn the_tenant_and_its_defaults_are_read() {
    let (graph, script) = scripted([
        ok(
            &json!({ "value": [{ "id": "t", "displayName": "Contoso", "verifiedDomains": [
                { "name": "contoso.com", "isDefault": true, "isInitial": false, "type": "Managed" },
                { "name": "contoso.onmicrosoft.com", "isDefault": false, "isInitial": true },
            ]}]}),
        ),
        ok(&json!({ "id": "0", "isEnabled": true })),
    ]);
    let organization = graph.organization().await.unwrap();
    assert!(organization.verified_domains[0].is_default);
    assert!(organization.verified_domains[1].is_initial);
    assert!(graph.security_defaults().await.unwrap());
    assert_eq!(
        script.sent(),
        [
            "GET /v1.0/organization?$select=id%2CdisplayName%2CverifiedDomains",
            "GET /v1.0/policies/identitySecurityDefaultsEnforcementPolicy"
        ]
    );
}

#[tokio::test]
async fn an_application_is_found_by_its_client_id() {
    let (graph, script) = scripted([
        ok(&json!({ "value": [application()] })),
        ok(&json!({ "value": [] })),
    ]);
    let app = graph.application(APP).await.unwrap().unwrap();
    assert_eq!((app.id.as_str(), app.app_id.as_str()), (OBJECT, APP));
    assert_eq!(app.public_redirects, ["http://localhost"]);
    assert!(!app.fallback_public_client);
    assert_eq!(
        app.required[0].resource_access[0].kind,
        PermissionKind::Scope
    );
    assert_eq!(app.passwords[0].ends, Some(time("2028-11-23T16:00:00Z")));
    assert_eq!(graph.application(APP).await.unwrap(), None);
    let expected = format!(
        "GET /v1.0/applications?$filter=appId%20eq%20%27{APP}%27&$select={APPLICATION_SELECT}"
    );
    assert_eq!(script.sent(), [expected.as_str(), expected.as_str()]);
}

#[tokio::test]
async fn a_name_is_quoted_in_a_filter_and_matched_exactly() {
    let mut other = application();
    other["displayName"] = json!("postrider: o'hara & co");
    let mut exact = application();
    exact["displayName"] = json!("Postrider: O'Hara & Co");
    let (graph, script) = scripted([ok(&json!({ "value": [other, exact] }))]);
    let found = graph
        .applications_named("Postrider: O'Hara & Co")
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        script.sent(),
        [format!(
            "GET /v1.0/applications?$filter=displayName%20eq%20%27Postrider%3A%20O%27%27Hara%20\
             %26%20Co%27&$select={APPLICATION_SELECT}"
        )]
    );
}

#[tokio::test]
async fn a_new_application_is_for_one_tenant() {
    let (graph, script) = scripted([answer(201, &application())]);
    let new = NewApplication {
        display_name: "Postrider: alerts".into(),
        notes: Some("made by postrider".into()),
        tags: vec!["postrider".into()],
        fallback_public_client: true,
        public_redirects: vec!["http://localhost".into()],
        web_redirects: Vec::new(),
        required: vec![RequiredAccess {
            resource_app_id: ids::resource::EXCHANGE_ONLINE.into(),
            resource_access: vec![RequiredPermission {
                id: ids::role::EXCHANGE_SMTP_SEND_AS_APP.into(),
                kind: PermissionKind::Role,
            }],
        }],
    };
    assert_eq!(graph.create_application(&new).await.unwrap().app_id, APP);
    assert_eq!(
        script.sent(),
        [format!(
            "POST /v1.0/applications {}",
            json!({
                "displayName": "Postrider: alerts",
                "signInAudience": "AzureADMyOrg",
                "isFallbackPublicClient": true,
                "publicClient": { "redirectUris": ["http://localhost"] },
                "web": { "redirectUris": [] },
                "requiredResourceAccess": [{
                    "resourceAppId": "00000002-0000-0ff1-ce00-000000000000",
                    "resourceAccess": [
                        { "id": "7146a1f0-8703-45b3-9eae-527a64c00995", "type": "Role" }
                    ],
                }],
                "tags": ["postrider"],
                "notes": "made by postrider",
            })
        )]
    );
}

#[tokio::test]
async fn a_change_sends_only_what_changes() {
    let (graph, script) = scripted([done(), done(), done()]);
    let patch = ApplicationPatch {
        fallback_public_client: Some(true),
        public_redirects: Some(vec!["http://localhost".into()]),
        ..ApplicationPatch::default()
    };
    graph.update_application(OBJECT, &patch).await.unwrap();
    let patch = ApplicationPatch {
        required: Some(Vec::new()),
        ..ApplicationPatch::default()
    };
    graph.update_application(OBJECT, &patch).await.unwrap();
    graph.delete_application(OBJECT).await.unwrap();
    assert_eq!(
        script.sent(),
        [
            format!(
                "PATCH /v1.0/applications/{OBJECT} {{\"isFallbackPublicClient\":true,\
                 \"publicClient\":{{\"redirectUris\":[\"http://localhost\"]}}}}"
            ),
            format!("PATCH /v1.0/applications/{OBJECT} {{\"requiredResourceAccess\":[]}}"),
            format!("DELETE /v1.0/applications/{OBJECT}"),
        ]
    );
}

#[tokio::test]
async fn what_is_gone_is_deleted() {
    let (graph, script) = scripted([refused(404, "Request_ResourceNotFound", "not there")]);
    graph.delete_application(OBJECT).await.unwrap();
    assert_eq!(script.sent().len(), 1);
}

#[tokio::test]
async fn owners_are_read_and_added() {
    let (graph, script) = scripted([
        ok(&json!({ "value": [{ "@odata.type": "#microsoft.graph.user", "id": USER }] })),
        done(),
    ]);
    let owners = graph.owners(OBJECT).await.unwrap();
    assert_eq!(owners[0].kind.as_deref(), Some("#microsoft.graph.user"));
    graph.add_owner(OBJECT, PRINCIPAL).await.unwrap();
    assert_eq!(
        script.sent(),
        [
            format!("GET /v1.0/applications/{OBJECT}/owners?$select=id"),
            format!(
                "POST /v1.0/applications/{OBJECT}/owners/$ref \
                 {{\"@odata.id\":\"https://graph.example/v1.0/directoryObjects/{PRINCIPAL}\"}}"
            ),
        ]
    );
}

#[tokio::test]
async fn a_service_principal_is_found_and_made() {
    let principal = json!({ "id": PRINCIPAL, "appId": APP, "displayName": "Postrider: alerts",
        "accountEnabled": true, "appRoleAssignmentRequired": false });
    let (graph, script) = scripted([
        ok(&json!({ "value": [] })),
        answer(201, &principal),
        ok(&json!({ "value": [principal] })),
    ]);
    assert_eq!(graph.service_principal(APP).await.unwrap(), None);
    let made = graph.create_service_principal(APP).await.unwrap();
    assert_eq!(graph.service_principal(APP).await.unwrap(), Some(made));
    let lookup = format!(
        "GET /v1.0/servicePrincipals?$filter=appId%20eq%20%27{APP}%27&$select=\
         id%2CappId%2CdisplayName%2CaccountEnabled%2CappRoleAssignmentRequired"
    );
    assert_eq!(
        script.sent(),
        [
            lookup.clone(),
            format!(
                "POST /v1.0/servicePrincipals {{\"appId\":\"{APP}\",\
                 \"tags\":[\"WindowsAzureActiveDirectoryIntegratedApp\"]}}"
            ),
            lookup,
        ]
    );
}

#[tokio::test]
async fn a_service_tells_the_permissions_it_knows() {
    let (graph, script) = scripted([ok(&json!({ "value": [{
        "id": EXCHANGE,
        "appId": ids::resource::EXCHANGE_ONLINE,
        "appRoles": [
            { "id": ids::role::EXCHANGE_SMTP_SEND_AS_APP, "value": "SMTP.SendAsApp",
              "allowedMemberTypes": ["Application"], "isEnabled": true },
            { "id": "18d14569-c3bd-439b-9a66-3a2aee01d14f", "value": null },
        ],
        "oauth2PermissionScopes": [
            { "id": ids::scope::EXCHANGE_SMTP_SEND, "value": "SMTP.Send", "type": "User" },
        ],
    }]}))]);
    let exchange = graph
        .resource(ids::resource::EXCHANGE_ONLINE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(exchange.permissions.len(), 2);
    let send = exchange
        .permission(PermissionKind::Scope, "SMTP.Send")
        .unwrap();
    assert_eq!(send.id, ids::scope::EXCHANGE_SMTP_SEND);
    assert_eq!(exchange.permission(PermissionKind::Role, "SMTP.Send"), None);
    let by_id = ids::role::EXCHANGE_SMTP_SEND_AS_APP.to_uppercase();
    let as_app = exchange.permission_by_id(PermissionKind::Role, &by_id);
    assert_eq!(as_app.unwrap().value, "SMTP.SendAsApp");
    assert_eq!(
        script.sent(),
        [
            "GET /v1.0/servicePrincipals?$filter=appId%20eq%20%2700000002-0000-0ff1-ce00-\
          000000000000%27&$select=id%2CappId%2CappRoles%2Coauth2PermissionScopes"
        ]
    );
}

fn grant(scope: &str) -> Value {
    json!({ "id": "l5eW7x0ga0-WDOntXzHateQDNpSH5-lPk9HjD3Sarjk", "clientId": PRINCIPAL,
        "consentType": "AllPrincipals", "principalId": null, "resourceId": EXCHANGE,
        "scope": scope })
}

#[tokio::test]
async fn consent_is_read_given_and_widened() {
    let (graph, script) = scripted([
        ok(&json!({ "value": [grant(" SMTP.Send  User.Read")] })),
        answer(201, &grant("SMTP.Send")),
        done(),
    ]);
    let found = graph.delegated_grants(PRINCIPAL).await.unwrap();
    assert_eq!(found[0].scopes, ["SMTP.Send", "User.Read"]);
    assert!(found[0].covers(None, ["User.Read"]));
    assert!(!found[0].covers(None, ["User.Read", "Mail.Send"]));
    let made = graph
        .grant_delegated(
            PRINCIPAL,
            EXCHANGE,
            &Consent::AllPrincipals,
            &["SMTP.Send", "offline_access"],
        )
        .await
        .unwrap();
    graph.widen_grant(&made, &["SMTP.Send"]).await.unwrap();
    graph
        .widen_grant(&made, &["offline_access", "SMTP.Send"])
        .await
        .unwrap();
    assert_eq!(
        script.sent(),
        [
            format!("GET /v1.0/oauth2PermissionGrants?$filter=clientId%20eq%20%27{PRINCIPAL}%27"),
            format!(
                "POST /v1.0/oauth2PermissionGrants {{\"clientId\":\"{PRINCIPAL}\",\
                 \"consentType\":\"AllPrincipals\",\"principalId\":null,\
                 \"resourceId\":\"{EXCHANGE}\",\"scope\":\"SMTP.Send offline_access\"}}"
            ),
            "PATCH /v1.0/oauth2PermissionGrants/l5eW7x0ga0-WDOntXzHateQDNpSH5-lPk9HjD3Sarjk \
             {\"scope\":\"SMTP.Send offline_access\"}"
                .to_owned(),
        ]
    );
}

#[test]
fn one_persons_consent_is_nobody_elses() {
    let grant = DelegatedGrant {
        id: "g".into(),
        client_id: PRINCIPAL.into(),
        resource_id: EXCHANGE.into(),
        consent: Consent::Principal(USER.into()),
        scopes: vec!["SMTP.Send".into()],
    };
    assert!(grant.covers(Some(USER), ["SMTP.Send"]));
    assert!(!grant.covers(Some(PRINCIPAL), ["SMTP.Send"]));
    assert!(!grant.covers(None, ["SMTP.Send"]));
}

#[tokio::test]
async fn application_permissions_are_read_and_given() {
    let assignment = json!({ "id": "2jLOxdsXdU6aJk2V4bRNA0JGuIwAAAAA",
        "appRoleId": ids::role::EXCHANGE_SMTP_SEND_AS_APP, "principalId": PRINCIPAL,
        "principalType": "ServicePrincipal", "resourceId": EXCHANGE,
        "resourceDisplayName": "Office 365 Exchange Online", "createdDateTime": null });
    let (graph, script) = scripted([
        ok(&json!({ "value": [assignment] })),
        answer(201, &assignment),
    ]);
    let found = graph.app_role_assignments(PRINCIPAL).await.unwrap();
    assert_eq!(found[0].resource_id, EXCHANGE);
    graph
        .assign_app_role(PRINCIPAL, EXCHANGE, ids::role::EXCHANGE_SMTP_SEND_AS_APP)
        .await
        .unwrap();
    assert_eq!(
        script.sent(),
        [
            format!("GET /v1.0/servicePrincipals/{PRINCIPAL}/appRoleAssignments"),
            format!(
                "POST /v1.0/servicePrincipals/{EXCHANGE}/appRoleAssignedTo \
                 {{\"principalId\":\"{PRINCIPAL}\",\"resourceId\":\"{EXCHANGE}\",\
                 \"appRoleId\":\"7146a1f0-8703-45b3-9eae-527a64c00995\"}}"
            ),
        ]
    );
}
