"""A device that knows a host, a port, a user and a password: Python's smtplib, told line by line in
JSON what to do, and answering each line with what the server replied."""

import json
import smtplib
import ssl
import sys

smtp = None


def connect(host, port, tls, source="127.0.0.1", ca=None):
    """The certificate is looked at where `ca` says by whom it is; a printer never looks."""
    global smtp
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls == "implicit":
        smtp = smtplib.SMTP_SSL(host, port, timeout=60, context=context, source_address=(source, 0))
    else:
        smtp = smtplib.SMTP(host, port, timeout=60, source_address=(source, 0))
    smtp.ehlo()
    if tls == "starttls":
        smtp.starttls(context=context)
        smtp.ehlo()
    return 220, " ".join(sorted(smtp.esmtp_features)) + " " + smtp.esmtp_features.get("auth", "")


def auth(user, password, mechanism="PLAIN", initial=True):
    smtp.user, smtp.password = user, password
    way = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login}[mechanism]
    return smtp.auth(mechanism, way, initial_response_ok=initial)


def send(sender, to, message):
    """One reply: the one that the message ended with, well or not."""
    smtp.rset()
    for step in [("mail", sender), *[("rcpt", one) for one in to]]:
        code, text = getattr(smtp, step[0])(step[1])
        if code >= 300:
            return code, text
    return smtp.data(message.encode())


def begin(sender, to):
    smtp.rset()
    smtp.mail(sender)
    for one in to:
        smtp.rcpt(one)
    return smtp.docmd("DATA")


def finish(message):
    smtp.send(message.encode() + b"\r\n.\r\n")
    return smtp.getreply()


def say(line):
    return smtp.docmd(line)


def hang_up():
    smtp.close()
    return 0, ""


for line in sys.stdin:
    wanted = json.loads(line)
    what = {f.__name__: f for f in (connect, auth, send, begin, finish, say, hang_up)}[wanted.pop("do")]
    try:
        code, text = what(**wanted)
    except smtplib.SMTPResponseException as error:
        code, text = error.smtp_code, error.smtp_error
    except (OSError, smtplib.SMTPException) as error:
        code, text = 0, repr(error)
    text = text.decode() if isinstance(text, bytes) else text
    print(json.dumps({"code": code, "text": text}), flush=True)
