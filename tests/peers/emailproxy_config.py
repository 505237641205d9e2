"""Encrypts tokens as Email OAuth 2.0 Proxy does: with its own code.

Reads {"username", "password", "iterations", "values": {key: text}} on standard input and prints
the lines that the proxy would write into the mailbox's section.
"""

import configparser
import json
import os
import sys
import tempfile

# The proxy looks at its arguments and at the configuration beside it when it is loaded.
wanted = json.load(sys.stdin)
sys.argv = ["emailproxy"]
os.chdir(tempfile.mkdtemp())

import emailproxy  # noqa: E402

config = emailproxy.ConcurrentConfigParser()
config.add_section(emailproxy.APP_SHORT_NAME)
config.add_section(wanted["username"])
emailproxy.AppConfig._PARSER = config
if wanted.get("iterations"):
    emailproxy.Cryptographer.ITERATIONS = wanted["iterations"]
cryptographer = emailproxy.Cryptographer(config, wanted["username"], wanted["password"])

section = configparser.ConfigParser(interpolation=None)
section["it"] = {
    "token_salt": cryptographer.salt,
    "token_iterations": str(cryptographer.iterations),
    **{key: cryptographer.encrypt(text) for key, text in wanted["values"].items()},
}
for key, text in section["it"].items():
    print(f"{key} = {text}")
