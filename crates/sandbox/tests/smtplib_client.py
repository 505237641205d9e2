"""A mail client nobody here wrote: Python's smtplib, against a sandbox.

Arguments: authority, SMTP port, CA file, the sandbox's mail directory.
Prints one JSON object of what it saw.
"""

import base64
import email
import email.policy
import hashlib
import json
import pathlib
import smtplib
import ssl
import sys
import urllib.parse
import urllib.request
from email.message import EmailMessage

authority, port, ca_file, mail_dir = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca_file)

form = urllib.parse.urlencode({
    "grant_type": "client_credentials",
    "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
    "client_secret": "daemon-client-secret",
    "scope": "https://outlook.office365.com/.default",
}).encode()
endpoint = authority + "contoso.onmicrosoft.com/oauth2/v2.0/token"
with urllib.request.urlopen(endpoint, form, context=tls) as answer:
    token = json.load(answer)["access_token"]

attached = bytes(n * 7 % 256 for n in range(200_000))
message = EmailMessage(policy=email.policy.SMTP.clone(max_line_length=998))
message["From"] = "Postrider <svc-mail@contoso.com>"
message["To"] = "a@example.net"
message["Subject"] = "Grüße, 日本"
message["Message-ID"] = "<story@contoso.com>"
text = ".\n..\n.dot\n" + "x" * 998 + "\n\nGrüße\n"
message.set_content(text, cte="8bit")
message.add_attachment(attached, maintype="application", subtype="octet-stream", filename="bericht.bin")
octets = message.as_bytes()

saw = {"octets": len(octets), "sha256": hashlib.sha256(octets).hexdigest()}
with smtplib.SMTP("localhost", int(port)) as smtp:
    smtp.ehlo("client.example")
    saw["clear"] = sorted(smtp.esmtp_features)
    smtp.starttls(context=tls)
    smtp.ehlo("client.example")
    saw["auth"] = smtp.esmtp_features["auth"].split()
    blob = f"user=svc-mail@contoso.com\x01auth=Bearer {token}\x01\x01".encode()
    code, challenge = smtp.docmd("AUTH", "XOAUTH2")
    saw["challenge"] = [code, challenge.decode()]
    code, reply = smtp.docmd(base64.b64encode(blob).decode())
    saw["authenticated"] = [code, reply.decode()]
    refused = smtp.sendmail(
        "svc-mail@contoso.com", ["a@example.net", "b@example.net"], octets, mail_options=["BODY=8BITMIME"]
    )
    saw["refused"] = refused
    other = octets.replace(b"svc-mail@contoso.com", b"ceo@contoso.com")
    try:
        smtp.sendmail("svc-mail@contoso.com", ["a@example.net"], other)
        saw["send_as"] = None
    except smtplib.SMTPDataError as error:
        saw["send_as"] = [error.smtp_code, error.smtp_error.decode()]

files = sorted(pathlib.Path(mail_dir).glob("*/*.eml"))
saw["files"] = [str(file.relative_to(mail_dir)) for file in files]
parsed = email.message_from_bytes(files[0].read_bytes(), policy=email.policy.default)
[attachment] = parsed.iter_attachments()
saw["subject"] = parsed["Subject"]
saw["text"] = parsed.get_body().get_content().replace("\r\n", "\n") == text
saw["attachment"] = attachment.get_content() == attached
print(json.dumps(saw))
