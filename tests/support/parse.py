"""Parses a message with Python's own email package and prints what it holds as JSON."""

import email
import email.policy
import hashlib
import json
import sys

with open(sys.argv[1], "rb") as file:
    message = email.message_from_binary_file(file, policy=email.policy.default)


def text(value):
    """RFC 6532: header fields may be UTF-8, which Python keeps as surrogates."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8")


def addresses(field):
    return [text(a.addr_spec) for a in message[field].addresses] if message[field] else []


def body(kind):
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part is not None else None


print(
    json.dumps(
        {
            "defects": [str(defect) for part in message.walk() for defect in part.defects],
            "subject": text(message["Subject"]),
            "from": text(message["From"]),
            "sender": text(message["Sender"]) if message["Sender"] else None,
            "to": addresses("To"),
            "cc": addresses("Cc"),
            "bcc": message["Bcc"] is not None,
            "message_id": message["Message-ID"],
            "text": body("plain"),
            "html": body("html"),
            "attachments": [
                {
                    "name": part.get_filename(),
                    "type": part.get_content_type(),
                    "octets": len(part.get_payload(decode=True)),
                    "sha256": hashlib.sha256(part.get_payload(decode=True)).hexdigest(),
                }
                for part in message.iter_attachments()
            ],
        }
    )
)
