"""Parses a message with Python's own email package and prints what it holds as JSON."""

import email
import email.policy
import hashlib
import json
import sys

with open(sys.argv[1], "rb") as file:
    message = email.message_from_binary_file(file, policy=email.policy.default)


def body(kind):
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part is not None else None


print(
    json.dumps(
        {
            "defects": [str(defect) for part in message.walk() for defect in part.defects],
            "subject": message["Subject"],
            "from": str(message["From"]),
            "sender": str(message["Sender"]) if message["Sender"] else None,
            "to": [a.addr_spec for a in message["To"].addresses] if message["To"] else [],
            "cc": [a.addr_spec for a in message["Cc"].addresses] if message["Cc"] else [],
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
