//! Entra ID's errors: code, OAuth `error`, HTTP status and text, as its servers send them.
//!
//! A row whose text or `error` nobody published says so beside it; clients must branch on
//! `error` and `suberror` alone, and the rows keep to that.

use std::borrow::Cow;
use std::fmt;

use crate::scenario::AadError;

/// One error, ready to be shown as JSON, as a page, or in a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Aadsts {
    pub(crate) code: u32,
    pub(crate) error: Cow<'static, str>,
    pub(crate) suberror: Option<Cow<'static, str>>,
    pub(crate) status: u16,
    /// The text after `AADSTSn: `.
    pub(crate) text: Box<str>,
    /// The `claims` a client would have to satisfy.
    pub(crate) claims: Option<Box<str>>,
    /// What the log says and the wire does not.
    pub(crate) why: Option<Box<str>>,
}

impl Aadsts {
    /// The error with this code; each `…` of its text is filled from `parts` in turn.
    pub(crate) fn new(code: u32, parts: &[&str]) -> Self {
        let row = CATALOGUE
            .iter()
            .find(|row| row.code == code)
            .unwrap_or(&UNKNOWN);
        let mut text = String::new();
        let mut parts = parts.iter();
        for (i, piece) in row.text.split('…').enumerate() {
            if i > 0 {
                // Parts may be a client's text: bounded, and free of control characters.
                let part = parts.next().copied().unwrap_or("…");
                text.extend(part.chars().filter(|c| !c.is_control()).take(500));
            }
            text.push_str(piece);
        }
        Self {
            code,
            error: Cow::Borrowed(row.error),
            suberror: row.suberror.map(Cow::Borrowed),
            status: row.status,
            text: text.into(),
            claims: None,
            why: None,
        }
    }

    /// The request itself makes no sense.
    pub(crate) fn malformed(why: impl Into<Box<str>>) -> Self {
        Self::new(9_002_313, &[]).because(why)
    }

    /// A parameter is missing from the request.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(900_144, &[parameter])
    }

    /// A fault of the scenario.
    pub(crate) fn of_fault(fault: AadError) -> Self {
        let mut error = Self::new(fault.code, &[]).because("a fault of the scenario");
        if let Some(oauth) = fault.error {
            error.error = Cow::Owned(oauth);
        }
        if let Some(suberror) = fault.suberror {
            error.suberror = Some(Cow::Owned(suberror));
        }
        if let Some(text) = fault.text {
            error.text = text.into();
        }
        error
    }

    /// The same under another OAuth `error`: some codes come under two.
    pub(crate) fn under(mut self, error: &'static str) -> Self {
        self.error = Cow::Borrowed(error);
        self
    }

    /// With the reason that only the log tells.
    pub(crate) fn because(mut self, why: impl Into<Box<str>>) -> Self {
        self.why = Some(why.into());
        self
    }
}

impl fmt::Display for Aadsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AADSTS{}: {}", self.code, self.text)
    }
}

struct Row {
    code: u32,
    error: &'static str,
    suberror: Option<&'static str>,
    status: u16,
    text: &'static str,
}

const fn row(code: u32, error: &'static str, text: &'static str) -> Row {
    Row {
        code,
        error,
        suberror: None,
        status: 400,
        text,
    }
}

const fn client(code: u32, text: &'static str) -> Row {
    Row {
        code,
        error: "invalid_client",
        suberror: None,
        status: 401,
        text,
    }
}

const fn sub(code: u32, error: &'static str, suberror: &'static str, text: &'static str) -> Row {
    Row {
        code,
        error,
        suberror: Some(suberror),
        status: 400,
        text,
    }
}

/// For faults with a code of which nothing was published.
const UNKNOWN: Row = row(0, "invalid_request", "An error occurred.");

#[rustfmt::skip]
const CATALOGUE: &[Row] = &[
    // The client.
    client(7_000_215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '…'."),
    client(7_000_222, "The provided client secret keys for app '…' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."),
    // Unconfirmed: text.
    client(7_000_218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    client(700_025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."),
    client(700_027, "Client assertion contains an invalid signature. [Reason - …]"),
    // Unconfirmed: code and text for an assertion outside its time, or whose issuer, subject and
    // audience no federated credential has.
    client(700_024, "Client assertion is not within its valid time range. Current time: …, assertion valid from …, expiry time of assertion …."),
    client(700_213, "No matching federated identity record found for presented assertion subject '…'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"),
    // Unconfirmed: code and text for an assertion's wrong `aud`, `iss` or `sub`.
    client(700_023, "Client assertion audience claim does not match Realm issuer."),
    client(700_021, "Client assertion application identifier doesn't match 'client_id' parameter."),
    row(700_016, "unauthorized_client", "Application with identifier '…' was not found in the directory '…'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."),
    // Consent.
    sub(65_001, "invalid_grant", "consent_required", "The user or administrator has not consented to use the application with ID '…' named '…'. Send an interactive authorization request for this user and resource."),
    // Unconfirmed: `error` and text of these two.
    row(65_004, "access_denied", "User declined to consent to access the app."),
    row(90_094, "access_denied", "An administrator must consent to the requested permissions."),
    // Scopes and resources.
    row(28_000, "invalid_request", "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope … is not valid."),
    row(70_011, "invalid_scope", "The provided value for the input parameter 'scope' is not valid. The scope … is not valid."),
    row(500_011, "invalid_resource", "The resource principal named … was not found in the tenant named …. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."),
    // Unconfirmed: `error`; the published text goes on.
    row(650_057, "invalid_resource", "Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration."),
    // The request. Unconfirmed: `error` of the first, which is published as a page.
    row(50_011, "invalid_request", "The redirect URI '…' specified in the request does not match the redirect URIs configured for the application '…'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about how to fix this."),
    row(50_194, "invalid_request", "Application '…'(…) is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such applications created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant."),
    row(90_002, "invalid_tenant", "Tenant '…' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
    row(9_002_313, "invalid_request", "Invalid request. Request is malformed or invalid."),
    // Unconfirmed: text and `error` of these six, and the codes of all but the last.
    row(900_144, "invalid_request", "The request body must contain the following parameter: '…'."),
    row(70_003, "unsupported_grant_type", "The app requested an unsupported grant type '…'."),
    row(70_005, "unsupported_response_type", "The app requested an unsupported response type '…'."),
    row(50_059, "invalid_request", "No tenant-identifying information found in either the request or implied by any provided credentials."),
    row(500_112, "invalid_grant", "The reply address '…' does not match the reply address '…' provided when requesting Authorization code."),
    row(900_439, "invalid_request", "The request was sent to the wrong cloud."),
    // The user. Unconfirmed: `error` of the first, which is published as a page.
    row(50_020, "invalid_grant", "User account '…' from identity provider '…' does not exist in tenant '…' and cannot access the application '…'(…) in that tenant. The account needs to be added as an external user in the tenant first. Sign out and sign in again with a different Azure Active Directory user account."),
    row(50_034, "invalid_grant", "The user account … does not exist in the … directory. To sign into this application, the account must be added to the directory."),
    row(50_126, "invalid_grant", "Error validating credentials due to invalid username or password."),
    sub(50_076, "invalid_grant", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '…'."),
    // Unconfirmed: text.
    sub(50_079, "invalid_grant", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '…'."),
    sub(53_003, "invalid_grant", "message_only", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."),
    // Unconfirmed: `error`; the published text goes on.
    row(530_035, "access_denied", "Access has been blocked by security defaults."),
    // Unconfirmed: texts of these five, `error` of the first three, and the code of the last.
    row(50_053, "invalid_grant", "The account is locked."),
    row(50_055, "invalid_grant", "The password is expired."),
    row(50_057, "invalid_grant", "The user account is disabled."),
    row(50_105, "access_denied", "The signed in user '…' is not assigned to a role for the application '…'(…)."),
    row(50_058, "login_required", "A silent sign-in request was sent but no user is signed in."),
    // Codes and refresh tokens.
    row(70_008, "invalid_grant", "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."),
    sub(700_082, "invalid_grant", "bad_token", "The refresh token has expired due to inactivity. The token was issued on … and was inactive for …."),
    row(700_084, "invalid_grant", "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which cannot be extended."),
    // Unconfirmed: text of the first.
    sub(70_043, "invalid_grant", "token_expired", "The refresh token has expired due to a sign-in frequency policy."),
    sub(50_173, "invalid_grant", "bad_token", "The provided grant has expired due to it being revoked, a fresh auth token is needed."),
    // Unconfirmed: `error`.
    row(54_005, "invalid_grant", "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."),
    row(501_481, "invalid_grant", "The Code_Verifier does not match the code_challenge supplied in the authorization request."),
    // Unconfirmed: code and text; `client_mismatch` is published.
    sub(70_000, "invalid_grant", "client_mismatch", "The provided grant was issued to another client."),
    // The device code flow.
    row(70_016, "authorization_pending", "OAuth 2.0 device flow error. Authorization is pending. Continue polling."),
    // Unconfirmed: code and text of the first, text of the second, `error` of the third.
    row(70_017, "authorization_declined", "OAuth 2.0 device flow error. The end user denied the authorization request."),
    row(70_018, "bad_verification_code", "OAuth 2.0 device flow error. The verification code is not known."),
    row(70_019, "expired_token", "Verification code expired."),
    // Service trouble, for faults. Unconfirmed: `error`, texts, and which of the two errors.
    row(90_033, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    row(50_033, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    row(50_087, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    row(90_006, "server_error", "The service is temporarily unavailable."),
    row(90_024, "server_error", "The request was throttled or timed out upstream."),
    row(50_196, "invalid_grant", "The server terminated an operation because it encountered a client request loop."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_filled_in_order_and_keep_what_is_unknown() {
        let error = Aadsts::new(700_016, &["app-id", "Contoso"]);
        assert!(error.to_string().starts_with("AADSTS700016: Application with identifier 'app-id' was not found in the directory 'Contoso'."));
        assert!(
            Aadsts::new(700_016, &["app-id"])
                .text
                .contains("directory '…'")
        );
        assert_eq!(Aadsts::new(424_242, &[]).error, "invalid_request");
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<_> = CATALOGUE.iter().map(|row| row.code).collect();
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
