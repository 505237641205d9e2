//! The parameters of `main.cf`: those that are read, and why the others are not carried over.

use super::main_cf::MainCf;
use crate::left::{NotCarried, Place, shown};

/// Parameters that are read here.
const READ: [&str; 39] = [
    "relayhost",
    "smtp_sasl_auth_enable",
    "smtp_sasl_password_maps",
    "smtp_sasl_mechanism_filter",
    "smtp_sasl_security_options",
    "smtp_sasl_tls_security_options",
    "smtp_sasl_type",
    "smtp_sender_dependent_authentication",
    "sender_dependent_relayhost_maps",
    "smtp_tls_security_level",
    "smtp_use_tls",
    "smtp_enforce_tls",
    "smtp_tls_wrappermode",
    "smtp_tls_CAfile",
    "smtp_tls_CApath",
    "smtp_tls_note_starttls_offer",
    "smtp_tls_session_cache_database",
    "smtp_tls_loglevel",
    "smtp_helo_name",
    "inet_interfaces",
    "inet_protocols",
    "mynetworks",
    "message_size_limit",
    "myhostname",
    "mydomain",
    "smtpd_tls_cert_file",
    "smtpd_tls_key_file",
    "smtpd_tls_chain_files",
    "smtpd_tls_security_level",
    "smtpd_use_tls",
    "smtpd_tls_wrappermode",
    "smtpd_tls_auth_only",
    "smtpd_sasl_auth_enable",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_client_restrictions",
    "default_database_type",
    "compatibility_level",
    "config_directory",
];

/// Parameters without a counterpart, why, and what to do.
const NOT_CARRIED: [(&str, &str, &str); 35] = [
    (
        "mydestination",
        LOCAL,
        "set sendmail.local_to for mail to users of this machine",
    ),
    (
        "alias_maps",
        LOCAL,
        "set sendmail.local_to for mail to users of this machine",
    ),
    ("virtual_alias_maps", LOCAL, ""),
    ("virtual_alias_domains", LOCAL, ""),
    ("virtual_mailbox_domains", LOCAL, ""),
    ("home_mailbox", LOCAL, ""),
    ("relay_domains", LOCAL, ""),
    ("transport_maps", SERVER, "choose the account by the sender"),
    (
        "sender_dependent_default_transport_maps",
        SERVER,
        "choose the account by the sender",
    ),
    ("default_transport", SERVER, ""),
    ("relay_transport", SERVER, ""),
    ("smtp_fallback_relay", SERVER, ""),
    (
        "smtp_tls_policy_maps",
        "TLS is required, whatever the server",
        "",
    ),
    (
        "mynetworks_style",
        "networks are named, not found out",
        "import with --client NETWORK",
    ),
    ("smtp_generic_maps", REWRITE, SENDER),
    ("canonical_maps", REWRITE, SENDER),
    ("sender_canonical_maps", REWRITE, SENDER),
    ("recipient_canonical_maps", REWRITE, ""),
    ("masquerade_domains", REWRITE, ""),
    (
        "header_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    (
        "smtp_header_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    (
        "body_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    ("content_filter", HOOK, "a script's gateway.message"),
    ("smtpd_milters", HOOK, "a script's gateway.message"),
    ("non_smtpd_milters", HOOK, "a script's message.before_send"),
    ("always_bcc", HOOK, "a script's message.before_send"),
    ("sender_bcc_maps", HOOK, "a script's message.before_send"),
    ("recipient_bcc_maps", HOOK, "a script's message.before_send"),
    (
        "smtpd_sender_login_maps",
        "senders are a setting",
        "set senders of the gateway or device",
    ),
    (
        "smtpd_client_message_rate_limit",
        "limits are a setting",
        "set messages_per_minute of the gateway or device",
    ),
    (
        "smtpd_client_connection_count_limit",
        "limits are a setting",
        "set connections_per_client of the gateway",
    ),
    ("default_destination_rate_delay", PACE, MINUTE),
    ("smtp_destination_rate_delay", PACE, MINUTE),
    (
        "maximal_queue_lifetime",
        "the queue has its own setting",
        "set queue.max_age",
    ),
    ("smtp_bind_address", "the system chooses the address", ""),
];

const LOCAL: &str = "Postrider delivers nothing on this machine: it sends through accounts";
const REWRITE: &str = "addresses are rewritten to the account's sender or not at all";
const SENDER: &str = "postrider sendmail gives the account's sender to what is no account's, such as root@host; for a \
                      gateway set rewrite_from";
const SERVER: &str = "an account has one server";
const PACE: &str = "an account's limits pace it";
const MINUTE: &str = "set messages_per_minute of the account";
const HOOK: &str = "messages are changed by scripts";

/// What nobody asked for until here; `carried` was, besides [`READ`].
pub(super) fn rest(path: &str, main: &MainCf, carried: &[&str], left: &mut Vec<NotCarried>) {
    let mut others = Vec::new();
    for (name, place) in main.filled() {
        if READ.contains(&name) || carried.contains(&name) {
            continue;
        }
        match NOT_CARRIED.iter().find(|(known, ..)| *known == name) {
            Some((_, why, instead)) => {
                let mut one = NotCarried::new(place, name, *why);
                if !instead.is_empty() {
                    one = one.instead(*instead);
                }
                left.push(one);
            }
            None => others.push(shown(name)),
        }
    }
    if !others.is_empty() {
        others.truncate(100);
        left.push(NotCarried::new(
            Place::file(path),
            "the other parameters",
            format!("they concern Postfix alone: {}", others.join(", ")),
        ));
    }
}
