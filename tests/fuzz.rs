//! The bodies of the fuzz targets, for a fixed number of cases each: half arbitrary octets,
//! half pieces of what the parser expects.

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../fuzz/bodies/importers.rs"]
mod importers;
#[path = "../fuzz/bodies/plugin_json.rs"]
mod plugin_json;
#[path = "../fuzz/bodies/server_session.rs"]
mod server_session;
#[path = "../fuzz/bodies/smtp_command.rs"]
mod smtp_command;
#[path = "../fuzz/bodies/smtp_reply.rs"]
mod smtp_reply;

const CASES: u32 = 2_000;

/// Arbitrary octets, or `pieces` in any order with arbitrary octets between them.
fn octets(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn smtp_replies(data in octets(&[
        "220 ", "250-", "250 ", "334 ", "535 5.7.3 ", "421", "-", " ", "\r\n", "\n", "\r",
        "AUTH LOGIN XOAUTH2", "SIZE 157286400", "SIZE", "PIPELINING", "5.7.139", "999999",
    ])) {
        smtp_reply::run(&data);
    }

    #[test]
    fn smtp_commands(data in octets(&[
        "EHLO ", "HELO ", "MAIL FROM:", "RCPT TO:", "<", ">", "a@example.org", "\"a b\"@", "[127.0.0.1]",
        " SIZE=", "12", " BODY=8BITMIME", " SMTPUTF8", " ORCPT=rfc822;", "+2B", " NOTIFY=NEVER", "BDAT ",
        " LAST", "AUTH ", "XOAUTH2", " =", "DATA", "RSET", "STARTTLS", "QUIT", "ü", " ", "\t", "\0",
    ])) {
        smtp_command::run(&data);
    }

    #[test]
    fn server_sessions(switches: u8, cut in 0u8..40, client in octets(&[
        "EHLO a", "HELO a", "MAIL FROM:<a@b>", "MAIL FROM: <a@b> BODY=BINARYMIME", "RCPT TO:<c@d>", "DATA",
        "DATA\r\nx\r\n.\r\n", "BDAT 3", "BDAT 5 LAST", "BDAT 0 LAST", "AUTH LOGIN", "AUTH PLAIN YWI=", "dXNlcgA=",
        "STARTTLS", "RSET", "NOOP", "QUIT", "\r\n.\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ".", "\n.\n", "\0", "abc",
        "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", "EHLO a\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n",
    ])) {
        server_session::run(&[&[switches, cut][..], &client].concat());
    }

    #[test]
    fn plugin_messages(data in octets(&[
        "{", "}", "[", "]", ":", ",", "\"http\"", "\"method\"", "\"POST\"", "\"url\"", "\"https://a/\"",
        "\"headers\"", "\"body\"", "\"AA==\"", "\"sleep_ms\"", "5000", "\"now_ms\"", "1", "\"access_token\"",
        "\"t\"", "\"expires_in\"", "\"slept\"", "{}", "\"random\"", "-1", "1e999", "null", "\"sasl_send\"",
    ])) {
        plugin_json::run(&data);
    }

    #[test]
    fn settings(data in octets(&[
        "[account.a]\n", "[account.a.auth]\n", "provider = ", "\"microsoft365\"\n", "username = ",
        "\"a@contoso.com\"\n", "sender = ", "plugin = \"oauth\"\n", "flow = ", "\"device_code\"\n", "tenant = ",
        "\"common\"\n", "client_secret = ", "{ env = \"X\" }\n", "server = { host = \"h\", port = ", "587", " }\n",
        "scopes = [", "\"https://graph.microsoft.com/Mail.Send\"", "]\n", "=", "#", "\n", "[plugins]\n", "é",
    ])) {
        config::run(&data);
    }

    #[test]
    fn importers(data in octets(&[
        "\u{1e}", "\n", "\n", "\n", "\n", "account a", "defaults", "host h", "auth on", "user u@h", "password ", "secret-1",
        "from u@h", "[SMTP-25]", "[a@b]", "[emailproxy]", "server_address = h", "server_port = 465",
        "token_url = https://login.microsoftonline.com/t/oauth2/v2.0/token", "client_id = c", "client_secret = ",
        "relayhost = [h]:587", "smtp_sasl_auth_enable = yes", "smtp_sasl_password_maps = ", "static:u@h:", "inline:{",
        "}", "texthash:/p", "regexp:/p", "[h]:587 u@h:", "/.+/ ", "/^a@h$/ ", "inet_interfaces = all", "mynetworks = 10.0.0.0/8",
        "smtp inet n - y - - smtpd", "{\"client_id\":\"c\"}", "{", "=", ":", "\u{7}",
    ])) {
        importers::run(&data);
    }
}
