//! The commands of msmtp: those that an account is made of, and why the others are not.

/// Commands that an account is made of.
pub(super) const CARRIED: [&str; 14] = [
    "host",
    "port",
    "tls",
    "tls_starttls",
    "tls_trust_file",
    "tls_certcheck",
    "tls_fingerprint",
    "auth",
    "user",
    "password",
    "passwordeval",
    "from",
    "domain",
    "protocol",
];

/// Commands without a counterpart, why, and what to do.
pub(super) const NOT_CARRIED: [(&str, &str, &str); 31] = [
    (
        "aliases",
        "mail for users of this machine has one address",
        "set sendmail.local_to",
    ),
    (
        "logfile",
        LOG,
        "postrider queue list; postrider serve logs to standard error",
    ),
    ("logfile_time_format", LOG, ""),
    (
        "syslog",
        LOG,
        "postrider serve logs to standard error, which systemd keeps",
    ),
    (
        "set_from_header",
        "mail from addresses that are no account's goes out with the account's sender",
        "sendmail.rewrite_from turns that off",
    ),
    (
        "add_missing_from_header",
        "a message without From gets the account's sender",
        "",
    ),
    (
        "allow_from_override",
        "mail from addresses that are no account's goes out with the account's sender",
        "sendmail.rewrite_from turns that off",
    ),
    ("auto_from", "an account has one sender", "set sender"),
    ("maildomain", "an account has one sender", "set sender"),
    ("set_date_header", "a missing Date is always added", ""),
    (
        "add_missing_date_header",
        "a missing Date is always added",
        "",
    ),
    (
        "set_msgid_header",
        "a missing Message-ID is always added",
        "",
    ),
    ("remove_bcc_headers", "Bcc is always removed", ""),
    (
        "undisclosed_recipients",
        "To and Cc go out as they were written",
        "",
    ),
    (
        "dsn_notify",
        "a program says so per message (sendmail -N)",
        "",
    ),
    (
        "dsn_return",
        "a program says so per message (sendmail -R)",
        "",
    ),
    (
        "timeout",
        "each phase has a time-out of its own",
        "set timeouts of the account",
    ),
    ("tls_crl_file", "revocation lists are not read", ""),
    ("tls_key_file", TLS_CLIENT, ""),
    ("tls_cert_file", TLS_CLIENT, ""),
    (
        "tls_priorities",
        "TLS 1.2 and 1.3 with the usual ciphers",
        "",
    ),
    ("tls_force_sslv3", "TLS 1.2 is the least", ""),
    (
        "tls_min_dh_prime_bits",
        "TLS 1.2 and 1.3 with the usual ciphers",
        "",
    ),
    (
        "tls_host_override",
        "the certificate must carry the name in host",
        "set server.host to that name",
    ),
    ("source_ip", "the system chooses the address", ""),
    ("proxy_host", "SMTP connects directly", ""),
    ("proxy_port", "SMTP connects directly", ""),
    ("ntlmdomain", "NTLM is not spoken", ""),
    ("keepbcc", "Bcc is always removed", ""),
    ("socket", "a Unix socket cannot be connected to", ""),
    (
        "eval",
        "its command was not run, so what it prints is not known",
        "set what it prints by hand",
    ),
];

const LOG: &str = "Postrider logs on its own";
const TLS_CLIENT: &str = "client certificates are not used for SMTP";

/// Programs that print an access token.
pub(super) const TOKEN_PROGRAMS: [&str; 12] = [
    "oama",
    "mailctl",
    "mutt_oauth2",
    "pizauth",
    "ortie",
    "oauth2l",
    "oauth2ms",
    "oauth2.py",
    "mutt-oauth2",
    "xoauth2",
    "gcloud",
    "postrider",
];

/// Programs that ask a key ring which is unlocked for the one who signed in.
pub(super) const KEY_RINGS: [&str; 12] = [
    "pass",
    "gopass",
    "gpg",
    "gpg2",
    "op",
    "bw",
    "rbw",
    "secret-tool",
    "security",
    "keyring",
    "kwallet-query",
    "keepassxc-cli",
];
