#!/usr/bin/env python3
"""Stands in for Postfix's postdrop: keeps what Postfix's sendmail would queue, as JSON."""

import json
import sys

out = sys.stdout.buffer
out.write(b"protocol\0postdrop_protocol\0queue_id\0ABC\0\0")
out.flush()


def records():
    """Type and octets of each record: a letter, a length in base 128, the octets."""
    while letter := sys.stdin.buffer.read(1):
        length = shift = 0
        while True:
            octet = sys.stdin.buffer.read(1)[0]
            length |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                break
        yield letter, sys.stdin.buffer.read(length)
        if letter == b"E":
            return


found = {"sender": None, "recipients": [], "message": ""}
for letter, octets in records():
    text = octets.decode("latin-1")
    if letter == b"S":
        found["sender"] = text
    elif letter == b"R":
        found["recipients"].append(text)
    elif letter == b"N":
        found["message"] += text + "\n"
    elif letter == b"L":
        found["message"] += text
with open(__file__ + ".json", "w", encoding="utf-8") as file:
    json.dump(found, file)
out.write(b"status\x000\0reason\0\0\0")
out.flush()
