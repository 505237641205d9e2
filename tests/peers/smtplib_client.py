#!/usr/bin/env python3
"""Sends with Python's smtplib, from several threads at once; what is wanted comes as JSON."""

import json
import smtplib
import ssl
import sys
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from threading import Thread

wanted = json.load(sys.stdin)
context = ssl.create_default_context(cafile=wanted["ca"])


def connect():
    if wanted["implicit"]:
        return smtplib.SMTP_SSL(wanted["host"], wanted["port"], timeout=60, context=context)
    smtp = smtplib.SMTP(wanted["host"], wanted["port"], timeout=60)
    smtp.starttls(context=context)
    return smtp


def login(smtp):
    smtp.ehlo()
    smtp.user, smtp.password = wanted["user"], wanted["password"]
    way = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login}[wanted["mechanism"]]
    smtp.auth(wanted["mechanism"], way, initial_response_ok=wanted["initial"])


def send(thread):
    try:
        with connect() as smtp:
            login(smtp)
            for number in range(wanted["messages"]):
                message = EmailMessage()
                message["From"] = wanted["from"]
                message["To"] = wanted["to"]
                message["Subject"] = f"{wanted['subject']} {thread}.{number}"
                message["Date"] = formatdate()
                message["Message-ID"] = make_msgid()
                message.set_content("From smtplib.\n.\nGrüße.\n")
                smtp.send_message(message)
    except smtplib.SMTPException as error:
        failures.append(repr(error))


failures = []
threads = [Thread(target=send, args=(number,)) for number in range(wanted["threads"])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(failures))
