//! The fact table's refusals, row by row: each has a meaning of its own in the catalogue.

use postrider_diagnose::Verdict::{self, Admin, Permanent, Reauthorize, Reconfigure, Retry};
use postrider_diagnose::{Subject, oauth, smtp};

/// Sections A2 and A3: the reply, the code it is to have, the verdict.
#[rustfmt::skip]
const REPLIES: &[(u16, &str, &str, &str, Verdict)] = &[
    (535, "5.7.139", "SmtpClientAuthentication is disabled for the Tenant.", "auth.smtp_disabled_tenant", Admin),
    (535, "5.7.139", "SmtpClientAuthentication is disabled for the Mailbox.", "auth.smtp_disabled_mailbox", Admin),
    (535, "5.7.139", "user is locked by your organization's security defaults policy.", "auth.security_defaults", Admin),
    (535, "5.7.139", "basic authentication is disabled.", "auth.basic_disabled", Reconfigure),
    (535, "5.7.139", "the user credentials were incorrect.", "auth.wrong_password", Reconfigure),
    (535, "5.7.139", "the request did not meet the criteria to be authenticated successfully.", "auth.policy", Admin),
    (535, "5.7.3", "Authentication unsuccessful", "auth.token_refused", Admin),
    (550, "5.7.30", "Basic authentication is not supported for Client Submission.", "auth.basic_retired", Reconfigure),
    (421, "4.7.66", "TLS 1.0 and 1.1 are not supported.", "tls.too_old", Reconfigure),
    (501, "5.5.124", "Invalid XOAUTH2 auth data", "auth.xoauth2_address", Reconfigure),
    (554, "5.2.252", "SendAsDenied; a not allowed to send as b; …", "smtp.send_as_denied", Admin),
    (550, "5.7.60", "SMTP; Client does not have permissions to send as this sender", "smtp.send_as_denied", Admin),
    (432, "4.3.2", "Concurrent connections limit exceeded.", "smtp.concurrency", Retry),
    (432, "4.3.2", "STOREDRV.ClientSubmit; sender thread limit exceeded", "smtp.concurrency", Retry),
    (554, "5.2.0", "STOREDRV.Submission.Exception:SubmissionQuotaExceededException", "smtp.daily_quota", Retry),
    (550, "5.2.2", "SubmissionQuotaExceededException", "smtp.daily_quota", Retry),
    (550, "5.1.90", "", "smtp.daily_quota", Retry),
    (554, "5.2.2", "mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", "smtp.mailbox_full", Permanent),
    (554, "5.2.0", "MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded", "smtp.too_large", Admin),
    (552, "5.3.4", "Header size exceeds fixed maximum size", "smtp.header_too_large", Permanent),
    (550, "5.2.251", "", "smtp.blocked_after_errors", Admin),
    (550, "5.2.252", "", "smtp.blocked_after_errors", Admin),
    (550, "5.2.255", "", "smtp.blocked_after_errors", Admin),
    (550, "5.1.8", "Access denied, bad outbound sender", "smtp.sender_blocked", Admin),
    (550, "5.7.501", "", "smtp.reputation", Admin),
    (550, "5.7.503", "", "smtp.reputation", Admin),
    (550, "5.7.509", "", "smtp.rejected", Permanent), // not in the table: its class decides
    (550, "5.7.705", "", "smtp.tenant_threshold", Admin),
    (550, "5.7.708", "", "smtp.address_blocked", Admin),
    (550, "5.7.750", "", "smtp.unregistered_domain", Admin),
    (452, "4.5.3", "", "smtp.too_many_recipients", Retry),
    (550, "5.6.11", "", "smtp.bare_lf", Permanent),
    (451, "4.7.0", "Temporary server error", "smtp.server_trouble", Retry),
    (451, "4.3.2", "Temporary server error", "smtp.server_trouble", Retry),
    (421, "4.3.2", "Service not active", "smtp.unavailable", Retry),
    (421, "4.4.1", "Connection timed out.", "smtp.idle", Retry),
    (421, "4.4.2", "Message submission rate", "smtp.rate", Retry),
];

/// Section B3: the AADSTS code and the verdict that its last column asks for.
#[rustfmt::skip]
const AADSTS: &[(u64, Verdict)] = &[
    (7_000_215, Admin), (7_000_222, Admin), (700_016, Reconfigure), (7_000_218, Admin),
    (700_025, Reconfigure), (700_027, Admin), (65_001, Reauthorize), (65_004, Reauthorize),
    (90_094, Admin), (28_000, Reconfigure), (70_011, Reconfigure), (500_011, Reconfigure),
    (650_057, Admin), (50_011, Admin), (50_020, Reauthorize), (50_034, Reauthorize),
    (50_194, Reconfigure), (50_076, Reauthorize), (50_079, Reauthorize), (53_003, Admin),
    (530_035, Reauthorize), (50_126, Reauthorize), (50_053, Admin), (50_055, Admin),
    (50_057, Admin), (50_105, Admin), (70_008, Reauthorize), (700_082, Reauthorize),
    (700_084, Reauthorize), (70_043, Reauthorize), (50_173, Reauthorize), (54_005, Reauthorize),
    (501_481, Reauthorize), (9_002_313, Permanent), (90_002, Reconfigure), (900_439, Reconfigure),
    (70_016, Retry), (70_018, Reauthorize), (70_019, Reauthorize), (50_196, Retry),
    (90_033, Retry), (50_033, Retry), (50_087, Retry), (90_006, Retry), (90_024, Retry),
    (135_010, Admin),
];

#[test]
fn every_known_reply_of_exchange_has_its_meaning() {
    for &(reply, enhanced, text, code, verdict) in REPLIES {
        let found = smtp(reply, Some(enhanced), text, Subject::default());
        assert_eq!(
            (found.code.as_str(), found.verdict),
            (code, verdict),
            "{reply} {enhanced} {text}"
        );
    }
}

#[test]
fn every_known_aadsts_code_has_its_meaning() {
    for &(aadsts, verdict) in AADSTS {
        let description = format!("AADSTS{aadsts}: …");
        let found = oauth("teapot", None, Some(&description), Subject::default());
        assert_ne!(found.code, "auth.failed", "{aadsts}");
        assert_eq!(found.verdict, verdict, "{aadsts}");
    }
}

#[test]
fn a_device_flows_errors_need_no_code_to_be_understood() {
    for (error, code) in [
        ("authorization_pending", "auth.pending"),
        ("authorization_declined", "auth.denied"),
        ("expired_token", "auth.device_code_expired"),
        ("bad_verification_code", "auth.device_code_unknown"),
        ("invalid_resource", "auth.no_exchange"),
        ("invalid_tenant", "auth.tenant_unknown"),
    ] {
        let found = oauth(error, None, None, Subject::default());
        assert_eq!(found.code, code);
    }
}
