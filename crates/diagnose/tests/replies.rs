//! Replies of servers other than Exchange Online, as public logs show them (addresses shortened
//! or replaced): each is explained, or honestly called unknown.

use postrider_diagnose::{Kind, Subject, explain};

/// Where it was found; the text; the codes of what it says, in order. `?` before a code: only
/// its class is known.
#[rustfmt::skip]
const REPLIES: &[(&str, &str, &[&str])] = &[
    ("mail-in-a-box/mailinabox#1771, Postfix on Gmail",
     "to=<example@example.com>, relay=alt1.aspmx.l.google.com[74.125.28.26]:25, delay=332, delays=328/0.03/3.4/0.57, dsn=4.7.28, status=deferred (host alt1.aspmx.l.google.com[74.125.28.26] said: 421-4.7.28 [192.0.2.9       4] Our system has detected an unusual rate of 421-4.7.28 unsolicited mail originating from your IP address. To protect our 421-4.7.28 users from spam, mail sent from your IP address has been temporarily 421-4.7.28 rate limited. Please visit 421-4.7.28  https://support.google.com/mail/?p=UnsolicitedRateLimitError to 421 4.7.28 review our Bulk Email Senders Guidelines. z1si9679476pln.401 - gsmtp (in reply to end of DATA command))",
     &["smtp.sender_rate_limited"]),
    ("root-io/vmail#89, a Postfix bounce wrapped anew",
     "host gmail-smtp-in.l.google.com[74.125.206.27] said:\n    550-5.7.1 [62.210.82.129      12] Our system has detected that this message\n    is 550-5.7.1 likely unsolicited mail. To reduce the amount of spam sent to\n    Gmail, 550-5.7.1 this message has been blocked. Please visit 550-5.7.1\n    https://support.google.com/mail/?p=UnsolicitedMessageError 550 5.7.1  for\n    more information. 125si7057894wmk.237 - gsmtp (in reply to end of DATA\n    command)",
     &["smtp.spam"]),
    ("maxking/docker-mailman#303",
     "Feb 11 07:41:39 listy postfix/smtp[3006]: 4424441E46: to=<RECP@gmail.com>, relay=gmail-smtp-in.l.google.com[66.102.1.27]:25, delay=0.58, delays=0.01/0.01/0.2/0.35, dsn=5.7.1, status=bounced (host gmail-smtp-in.l.google.com[66.102.1.27] said: 550-5.7.1 [104.248.27.183       1] Our system has detected an unusual rate of 550-5.7.1 unsolicited mail originating from your IP address. To protect our 550-5.7.1 users from spam, mail sent from your IP address has been blocked. 550-5.7.1 Please visit 550-5.7.1  https://support.google.com/mail/?p=UnsolicitedIPError to review our 550 5.7.1 Bulk Email Senders Guidelines. q16si3475662wrs.311 - gsmtp (in reply to end of DATA command))",
     &["smtp.spam"]),
    ("cgeo/cgeo#5737, Exim on Gmail",
     "  SMTP error from remote mail server after end of data:\n    host aspmx.l.google.com [74.125.133.26]: 550-5.7.1 [193.95.241.239      12] Our system has detected that this message is\n    550-5.7.1 likely unsolicited mail. To reduce the amount of spam sent to Gmail,\n    550-5.7.1 this message has been blocked. Please visit\n    550 5.7.1  https://support.google.com/mail/answer/188131 for more information. r11si2166wmb.87 - gsmtp",
     &["smtp.spam"]),
    ("CDLUC3/ezid#434, a Postfix bounce",
     "host gmail-smtp-in.l.google.com[142.250.107.26] said:\n            550-5.7.26 This mail is unauthenticated, which poses a security risk to the\n            550-5.7.26 sender and Gmail users, and has been blocked. The sender must\n            550-5.7.26 authenticate with at least one of SPF or DKIM. For this message,\n            550-5.7.26 DKIM checks did not pass and SPF check for\n            [ids-n2t2-prd.n2t.net] 550-5.7.26 did not pass with ip: [54.244.52.1]. The\n            sender should visit 550-5.7.26\n            https://support.google.com/mail/answer/81126#authentication for 550 5.7.26\n            instructions on setting up authentication",
     &["smtp.unauthenticated_domain"]),
    ("cloudflare/cloudflare-docs#11542, a bounce of Exim",
     "Action: failed\nFinal-Recipient: rfc822;someone@gmail.com\nStatus: 5.0.0\nRemote-MTA: dns; gmail-smtp-in.l.google.com\nDiagnostic-Code: smtp; 550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n 550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n 550-5.7.26\n 550-5.7.26  Authentication results:\n 550-5.7.26  DKIM = did not pass\n 550 5.7.26  https://support.google.com/mail/answer/81126#authentication f18-20020a2e1f12000000b002c50bd6d1c8si1069648ljf.488 - gsmtp",
     &["smtp.unauthenticated_domain"]),
    ("docker-mailserver/docker-mailserver#2996",
     "Jan 11 02:21:49 postfix/smtp[2755]: A16D218A1FD9: host gmail-smtp-in.l.google.com[172.253.124.27] said: 421-4.7.0 This message does not pass authentication checks (SPF and DKIM both do 421-4.7.0 not pass). SPF check for [domain.com] does not pass with ip: 421-4.7.0 [ipaddress].To best protect our users from spam, the message has 421-4.7.0 been blocked. Please visit 421-4.7.0  https://support.google.com/mail/answer/81126#authentication for more 421 4.7.0 information. g206-20020a2552d7000000b006fcc3d767efsi15421136ybb.469 - gsmtp (in reply to end of DATA command)",
     &["smtp.unauthenticated_domain"]),
    ("docusealco/docuseal#524, Yahoo by way of Gmail",
     "The response from the remote server was:\n550 5.7.9 This mail has been blocked because the sender is unauthenticated. Yahoo requires all senders to authenticate with either SPF or DKIM. Authentication results: DKIM = FAILURE",
     &["smtp.unauthenticated_domain"]),
    ("hacky1997/voice-based-email-for-blind#22, Python",
     "smtplib.SMTPAuthenticationError: (535, b'5.7.8 Username and Password not accepted. Learn more at\\n5.7.8  https://support.google.com/mail/?p=BadCredentials j10sm5731558pfn.207 - gsmtp')",
     &["auth.rejected"]),
    ("jef/streetmerchant#1190, nodemailer's error as JSON",
     "{ \"code\": \"EAUTH\",\n  \"response\": \"535-5.7.8 Username and Password not accepted. Learn more at\\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp\",\n  \"responseCode\": 535,\n  \"command\": \"AUTH PLAIN\",\n  \"stack\": \"Error: Invalid login: 535-5.7.8 Username and Password not accepted. Learn more at\\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp\\n    at SMTPConnection._formatError (index.js:774:19)\" }",
     &["auth.rejected"]),
    ("gophish/gophish#2229",
     "Max connection attempts exceeded - 534 5.7.9 Application-specific password required. Learn more at 5.7.9 https://support.google.com/mail/?p=InvalidSecondFactor t11sm9819028qta.8 - gsmtp",
     &["auth.app_password"]),
    ("nodemailer/nodemailer#310",
     "Please log in via your web browser and then try again.\\n534-5.7.14 Learn more at\\n534 5.7.14 https://support.google.com/mail/bin/answer.py?answer=78754 d32sm8306558qga.12 - gsmtp\",\"responseCode\":534}",
     &["auth.web_login"]),
    ("iiuni/projektzapisy#960, Python",
     "SMTPDataError: (550, b'5.4.5 Daily user sending quota exceeded. s124sm6149838wme.29 - gsmtp')",
     &["smtp.daily_quota"]),
    ("gen-smtp/gen_smtp#140, Erlang",
     "{{nocatch,{permanent_failure,<<\"550 5.4.5 Daily user sending quota exceeded. o65sm25351206pga.71 - gsmtp\\r\\n\">>}}",
     &["smtp.daily_quota"]),
    ("fastify/help#800, nodemailer",
     "Error: Data command failed: 421 4.3.0 Temporary System Problem.  Try again later (10). cx5-20020a17090afd8500b002135de3013fsm2332009pjb.32 - gsmtp\n    at SMTPConnection._formatError (index.js:790:19)",
     &["smtp.unavailable"]),
    ("PHPMailer/PHPMailer#1886",
     "Mailer Error: The following From address failed: mymail : MAIL FROM command failed,Authentication Required. Learn more at https://support.google.com/mail/?p=WantAuthError o189sm20117163wmo.23 - gsmtp ,530,5.5.1SMTP server error: MAIL FROM command failed Detail: Authentication Required. Learn more at https://support.google.com/mail/?p=WantAuthError o189sm20117163wmo.23 - gsmtp SMTP code: 530 Additional SMTP info: 5.5.1",
     &["auth.required"]),
    ("tutao/tutanota#7113, Yahoo",
     "<someone@ymail.com>: host mta7.am0.yahoodns.net[67.195.228.94] said: 421\n4.7.0 [TSS04] Messages from 185.205.69.214 temporarily deferred due to\nunexpected volume or user complaints - 4.16.55.1; see\nhttps://postmaster.yahooinc.com/error-codes (in reply to MAIL FROM command)",
     &["smtp.sender_rate_limited"]),
    ("KumoCorp/kumomta#376, Yahoo",
     "421 [IPTS04] Messages from a.b.c.d temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
     &["smtp.sender_rate_limited"]),
    ("hardware/mailserver#206, Yahoo, quoted",
     "> kamel.xxxx@yahoo.com: host mta6.am0.yahoodns.net[74.6.137.64] said: 553 5.7.2\n>     [TSS06] All messages from 62.0.2.1 will be permanently deferred;\n>     Retrying will NOT succeed. See\n>     https://help.yahoo.com/kb/postmaster/SLN3436.html (in reply to MAIL FROM\n>     command)",
     &["smtp.address_blocked"]),
    ("spamhaus/spamassassin-dqs#53, Postfix",
     "Oct 31 01:28:43 mail postfix/smtpd[3468]: NOQUEUE: reject: RCPT from mail-lo2gbr01olkn0166.outbound.protection.outlook.com[104.47.21.166]: 554 5.7.1 Service unavailable; Client host [104.47.21.166] blocked using sbl.spamhaus.org; Error: open resolver; https://www.spamhaus.org/returnc/pub/172.69.79.93; from=<x@x.example> to=<y@y.example> proto=ESMTP helo=<GBR01-LO2-obe.outbound.protection.outlook.com>",
     &["smtp.blocklist_broken"]),
    ("devmehq/email-validator-js#100, Outlook",
     "Mailbox: got data 550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus. To request removal from this list see",
     &["smtp.blocklisted"]),
    ("reacherhq/check-if-email-exists#1110, mailbox.org without its code",
     "\"message\": \"permanent: 5.7.1 Service unavailable; Client host [44.202.40.57] blocked by RBL; https://www.spamhaus.org/sbl/query/SBLCSS / https://www.spamhaus.org/query/ip/44.202.40.57\"",
     &["smtp.blocklisted"]),
    ("getconversio/email-deep-validator#20, Barracuda",
     "'554-Service unavailable; Client host [bl11-253-215.dsl.telepac.pt] blocked using\\r\\n554-Barracuda Reputation;\\r\\n554 http://www.barracudanetworks.com/reputation/?r=1&ip=85.244.0.1\\r\\n'",
     &["smtp.blocklisted"]),
    ("hestiacp/hestiacp#2901, Exim's bounce of Outlook.com",
     "    SMTP error from remote mail server after pipelined end of data:\n    550 5.7.1 Unfortunately, messages from [185.234.69.116] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140). You can also refer your provider to http://mail.live.com/mail/troubleshooting.aspx#errors. [DM6NAM12FT008.eop-nam12.prod.protection.outlook.com 2023-02-01T02:52:56.703Z 08DB03E3F757F606]",
     &["smtp.blocklisted"]),
    ("OpenSMTPD/OpenSMTPD#446, GMX in OpenSMTPD's trace",
     "mta: 0xea6710: <<< 554-gmx.net (mxgmx008) Nemesis ESMTP Service not available\nmta: 0xea6710: <<< 554-No SMTP service\nmta: 0xea6710: <<< 554-Bad DNS PTR resource record.\nmta: 0xea6710: <<< 554 For explanation visit http://postmaster.gmx.com/en/error-messages?ip=88.189.231.41&c=rdns",
     &["smtp.reverse_dns"]),
    ("iredmail/iRedMail#156, free.fr in Postfix's log",
     "Jan 23 14:53:49 Pixel-games postfix/smtp[49306]: 4JgyGN3kgGzMCn: to=<q@free.fr>, relay=mx2.free.fr[212.27.42.59]:25, delay=90417, delays=90417/0.13/0.08/0, dsn=4.0.0, status=deferred (host mx2.free.fr[212.27.42.59] refused to talk to me: 421 Refused. Your reverse DNS entry does not resolve to an IP.)",
     &["smtp.reverse_dns"]),
    ("schweikert/postgrey#84, Exim on postgrey",
     "SMTP error from remote mail server after RCPT TO:<mirabellug@aful.org>:\n450 4.2.0 <mirabellug@aful.org>: Recipient address rejected: Greylisted,\nsee http://postgrey.schweikert.ch/help/aful.org.html",
     &["smtp.greylisted"]),
    ("eleith/emailjs#202, as a JavaScript object",
     "{ Error: bad response on command 'RCPT': 4.2.0 <xo@wvvw.me>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/wvvw.me.html\n  code: 2,\n  smtp: '450 4.2.0 <xo@wvvw.me>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/wvvw.me.html\\n' }",
     &["smtp.greylisted"]),
    ("postalserver/postal#576, rspamd",
     "451 4.7.1 Try again later",
     &["smtp.greylisted"]),
    ("splitbrain/dokuwiki-plugin-smtp#38, Yandex",
     "Sent: MAIL FROM:<>\nGot: 553 5.7.1 Sender address rejected: not owned by auth user.",
     &["smtp.sender_not_owned"]),
    ("WPManageNinja/fluent-smtp#62, PHPMailer",
     "The following From address failed: support@example.com : MAIL FROM command failed,Sender address rejected: not owned by auth user.\\r\\n,553,5.7.1SMTP server error: MAIL FROM command failed Detail: Sender address rejected: not owned by auth user.\\r\\n SMTP code: 553 Additional SMTP info: 5.7.1",
     &["smtp.sender_not_owned"]),
    ("sahat/hackathon-starter#1083, SendGrid",
     "response: '550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved. Visit https://sendgrid.com/docs/for-developers/sending-email/sender-identity/ to see the Sender Identity requirements',",
     &["smtp.sender_not_verified"]),
    ("GoogleCloudPlatform/cloud-build-notifiers#87, Amazon SES in Go",
     "E1210 04:12:44.669479 1 notifiers.go:449] failed to run SendNotification: failed to send email: 554 Message rejected: Email address is not verified. The following identities failed the check in region US-EAST-1",
     &["smtp.sender_not_verified"]),
    ("docker-mailserver/docker-mailserver#2257, cPanel's Exim",
     "Action: failed\nStatus: 5.0.0\nRemote-MTA: dns; mail.example.com\nDiagnostic-Code: smtp; 550-Verification failed for <user@example.com>\n    550-The mail server does not recognize user@example.com as a valid\n    sender. 550 Sender verify failed",
     &["smtp.sender_unverifiable"]),
    ("postalserver/postal#1199",
     "Permanent SMTP delivery error when sending to mail.remoteserver.com (192.0.2.7)\n550 5.1.0 MailProtect : Domain of sender address khcrqq@psrp.mydmain.com does not exist",
     &["smtp.sender_domain"]),
    ("git.exim.org test/stderr/0094, Exim",
     "SMTP>> 550 relay not permitted",
     &["smtp.relay_denied"]),
    ("major.io 2007-08-30, Postfix",
     "postfix/smtpd[23897]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 <user@example.org>: Relay access denied; from=<a@example.com> to=<user@example.org> proto=ESMTP helo=<x>",
     &["smtp.relay_denied"]),
    ("hoststud.com, Postfix",
     "454 4.7.1 <user@example.com>: Relay access denied",
     &["smtp.relay_denied"]),
    ("corecode/dma#50, dma on Postfix",
     "dma: smarthost authentication: AUTH cram-md5 not available: 535 5.7.8 Error: authentication failed: Invalid authentication mechanism\ndma: remote delivery to mail.cweiske.de [2a01:488::1] failed after RCPT TO: 554 5.7.1 <x.dip0.t-ipconnect.de[2003:d9::1]>: Client host rejected: Access denied",
     &["auth.mechanism", "smtp.client_rejected"]),
    ("PHPMailer/PHPMailer#1074, Exim",
     "SMTP ERROR: Password command failed: 535 Incorrect authentication data",
     &["auth.wrong_password"]),
    ("eungjun-yi in andris9/simplesmtp#7, Naver",
     "{ [AuthError: Invalid login - 553 5.3.0 Auth failure] name: 'AuthError'",
     &["?smtp.rejected"]),
    ("chatmail/filtermail#143, GMX",
     "[WARN  filtermail::transport] Message rejected by mail server mx00.emig.gmx.net: Unable to send email, Error during RSET on reused connection, server said: 421 gmx.net Service closing transmission channel - command timeout",
     &["smtp.idle"]),
    ("zytzagoo/smtp-validate-email#9",
     "421 4.7.1 Intrusion prevention active for [192.0.2.1]",
     &["smtp.unavailable"]),
    ("ActiveCampaign/smtp-field-manual#42, Outlook",
     "smtp;450 4.7.3 Organization queue quota exceeded. [outlook.com]",
     &["smtp.recipients_exceeded"]),
    ("tarickb/sasl-xoauth2#5, Postfix on Exchange",
     "C965260A09BB: to=<k@outlook.com>, relay=smtp.outlook.com[2603:1036:c00:1::2]:587, delay=76108, delays=76079/0.05/30/0, dsn=4.7.3, status=deferred (SASL authentication failed; server smtp.outlook.com[2603:1036:c00:1::2] said: 535 5.7.3 Authentication unsuccessful [YTXPR0101CA0051.CANPRD01.PROD.OUTLOOK.COM])",
     &["auth.token_refused"]),
    ("panubo/docker-postfix#37",
     "postfix/error[3180]: DF27F16456B: to=<o@yahoo.co.id>, relay=none, delay=369825, delays=369825/0.15/0/0, dsn=4.4.3, status=deferred (delivery temporarily suspended: Host or domain name not found. Name service error for name=yahoo.co.id type=MX: Host not found, try again)",
     &["smtp.next_hop_dns", "network.dns"]),
    ("chatmail/relay#919, Postfix",
     "Apr 30 18:18:42 delta postfix/smtp[30857]: connect to nine.testrun.org[77.42.49.41]:25: Connection timed out\nApr 30 18:18:42 delta postfix/smtp[30857]: connect to nine.testrun.org[2a01:4f9:fff1:59::1]:25: Network is unreachable",
     &["network.connect"]),
    ("marlam/msmtp#23",
     "msmtp: TLS certificate verification failed: certificate 2 of 4 has expired\nmsmtp: could not send mail (account school from /home/USER/.config/msmtp/config)",
     &["tls.expired"]),
    ("marlam/msmtp#22",
     "sendmail: the server does not support authentication",
     &["smtp.no_auth"]),
    ("nodemailer/nodemailer#1040",
     "{ Error: self signed certificate in certificate chain\n    at TLSSocket.onConnectSecure (_tls_wrap.js:1055:34)\n    at TLSSocket.emit (events.js:198:13)\n    at TLSSocket._finishInit (_tls_wrap.js:627:8) code: 'ESOCKET', command: 'CONN' }",
     &["tls.unknown_authority"]),
    ("EasyEngine/dockerfiles#106, Postfix",
     "to=<user@example.com>, relay=smtp.example.com[192.0.2.1]:587, delay=6, delays=0.01/0.03/6/0, dsn=4.7.0, status=deferred (SASL authentication failed; cannot authenticate to server smtp.example.com[192.0.2.1]: no mechanism available)",
     &["?smtp.temporary", "smtp.no_auth"]),
    ("microsoftgraph/android-java-meetingfeedback-rest-sample#11",
     "{\"error\": {\"code\": \"InvalidAuthenticationToken\", \"message\": \"CompactToken parsing failed with error code: -2147184105\", \"innerError\": {\"request-id\": \"\", \"date\": \"2016-01-29T23:32:15\"}}}",
     &["graph.token"]),
    ("microsoftgraph/aspnetcore-connect-sample#37",
     "ServiceException: Code: ErrorAccessDenied\nMessage: Access is denied. Check credentials and try again.",
     &["graph.access_denied"]),
    ("jasonjoh/node-outlook#7",
     "ERROR: REST request returned 400; body: {\"error\":{\"code\":\"ErrorMissingEmailAddress\",\"message\":\"When making a request as an account that does not have a mailbox, you must specify the mailbox primary SMTP address for any distinguished folder Ids.\"}}",
     &["graph.no_mailbox"]),
    ("PHPMailer/PHPMailer#2291, a banner that is no refusal",
     "SERVER -> CLIENT: 220-sg2plzcpnl458810.prod.sin2.secureserver.net ESMTP Exim 4.93 #2 Mon, 22 Mar 2021 04:51:03 -0700 220-We do not authorize the use of this system to transport unsolicited, 220 and/or bulk e-mail.",
     &["?explain.unknown"]),
];

#[test]
fn each_reply_is_explained_or_called_unknown() {
    let mut wrong = Vec::new();
    for (source, text, codes) in REPLIES {
        let found = explain(text, Subject::default());
        let told: Vec<String> = found
            .iter()
            .map(|one| {
                let mark = if one.diagnosis.known { "" } else { "?" };
                format!("{mark}{}", one.diagnosis.code)
            })
            .collect();
        if told != *codes {
            wrong.push(format!(
                "{source}\n  expected {codes:?}\n  told     {told:?}\n  {:?}",
                found.iter().map(|one| &one.original).collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_thirty_and_more() {
    assert!(REPLIES.len() > 50, "{}", REPLIES.len());
}

#[test]
fn what_is_unknown_is_shown_as_it_was_said() {
    let found = explain("553 5.3.0 Auth failure of a new kind", Subject::default());

    assert_eq!(found.len(), 1);
    assert!(!found[0].diagnosis.known);
    assert_eq!(found[0].kind, Kind::Smtp);
    assert_eq!(found[0].original, "553 5.3.0 Auth failure of a new kind");
    assert!(
        found[0]
            .diagnosis
            .cause
            .contains("its own system is the reason")
    );
}
