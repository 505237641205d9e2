//! Microsoft's fixed identifiers, the same in every tenant.
//!
//! Sources: the permissions reference and the licensing and roles references of Microsoft
//! Learn; for the permissions of Exchange Online, which no reference lists, permission dumps in
//! public repositories. A permission that is not here is found by its name, with
//! [`crate::Graph::resource`].

/// Client ids of the services that permissions belong to.
pub mod resource {
    /// Microsoft Graph.
    pub const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
    /// Office 365 Exchange Online, whose tokens SMTP takes.
    pub const EXCHANGE_ONLINE: &str = "00000002-0000-0ff1-ce00-000000000000";
}

/// Delegated permissions: what an app may do for the person signed in.
pub mod scope {
    /// `SMTP.Send` of Exchange Online.
    pub const EXCHANGE_SMTP_SEND: &str = "76faac2a-0f20-42f1-928a-50de5b9dbe52";
    /// `SMTP.Send` of Graph.
    pub const GRAPH_SMTP_SEND: &str = "258f6531-6087-4cc4-bb90-092c5fb3ed3f";
    /// `User.Read` of Graph.
    pub const USER_READ: &str = "e1fe6dd8-ba31-4d61-89e7-88639da4683d";
    /// `openid` of Graph.
    pub const OPENID: &str = "37f7f235-527c-4136-accd-4a02d197296e";
    /// `profile` of Graph.
    pub const PROFILE: &str = "14dad69e-099b-42c9-810b-d002981feec1";
    /// `offline_access` of Graph.
    pub const OFFLINE_ACCESS: &str = "7427e0e9-2fba-42fe-b0c0-848c9e6a8182";
    /// `Mail.Send` of Graph.
    pub const MAIL_SEND: &str = "e383f46e-2787-4529-855e-0e479a3ffac0";
    /// `DelegatedPermissionGrant.ReadWrite.All` of Graph.
    pub const DELEGATED_PERMISSION_GRANT_READ_WRITE_ALL: &str =
        "41ce6ca6-6826-4807-84f1-1c82854f7ee5";
}

/// Application permissions: what an app may do by itself.
pub mod role {
    /// `SMTP.SendAsApp` of Exchange Online.
    pub const EXCHANGE_SMTP_SEND_AS_APP: &str = "7146a1f0-8703-45b3-9eae-527a64c00995";
    /// `Mail.Send` of Graph.
    pub const MAIL_SEND: &str = "b633e1c5-b582-4048-a93e-9f11b44c7e96";
}

/// Templates of directory roles (`roleTemplateId`, and `wids` in a token).
pub mod directory_role {
    /// Global Administrator.
    pub const GLOBAL_ADMINISTRATOR: &str = "62e90394-69f5-4237-9190-012177145e10";
    /// Privileged Role Administrator.
    pub const PRIVILEGED_ROLE_ADMINISTRATOR: &str = "e8611ab8-c189-46e8-94e1-60213ab1f814";
    /// Application Administrator.
    pub const APPLICATION_ADMINISTRATOR: &str = "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3";
    /// Cloud Application Administrator.
    pub const CLOUD_APPLICATION_ADMINISTRATOR: &str = "158c047a-c907-4556-b7ef-446551a6b5f7";
    /// Exchange Administrator.
    pub const EXCHANGE_ADMINISTRATOR: &str = "29232cdf-9323-42fd-ade2-1d097af3e4de";
}

/// Service plans that are a mailbox in Exchange Online.
pub(crate) const MAILBOX_PLANS: [&str; 9] = [
    "9aaf7827-d63c-4b61-89c3-182f06f82e5c", // EXCHANGE_S_STANDARD
    "efb87545-963c-4e0d-99df-69c6916d9eb0", // EXCHANGE_S_ENTERPRISE
    "4a82b400-a79f-41a4-b4e2-e94f5787b113", // EXCHANGE_S_DESKLESS
    "1126bef5-da20-4f07-b45e-ad25d2581aa8", // EXCHANGE_S_ESSENTIALS
    "fc52cc4b-ed7d-472d-bbe7-b081c23ecc56", // EXCHANGE_S_STANDARD_MIDMARKET
    "d42bdbd6-c335-4231-ab3d-c8f348d5aff5", // EXCHANGE_L_STANDARD
    "90927877-dcff-4af6-b346-2332c0b15bb7", // EXCHANGE_B_STANDARD
    "e9b4930a-925f-45e2-ac2a-3f7788ca6fdd", // EXCHANGE_S_STANDARD_GOV
    "8c3069c0-ccdb-44be-ab77-986203a67df2", // EXCHANGE_S_ENTERPRISE_GOV
];

/// Service plans of Exchange that are no mailbox, though their names suggest one.
pub(crate) const NOT_A_MAILBOX_PLANS: [&str; 4] = [
    "113feb6c-3fe4-4440-bddc-54d774bf0318", // EXCHANGE_S_FOUNDATION
    "922ba911-5694-4e99-a794-73aed9bfeec8", // EXCHANGE_S_FOUNDATION_GOV
    "da040e0a-b393-4bea-bb76-928b3fa1cf5a", // EXCHANGE_S_ARCHIVE
    "176a09a6-7ec5-4039-ac02-b2791c6ba793", // EXCHANGE_S_ARCHIVE_ADDON
];
