"""A webhook on Python's own HTTP server, with TLS. Says on which port it listens, and writes each
POST as one line of JSON."""

import http.server
import json
import ssl
import sys

certificate, log, status = sys.argv[1:]


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(log, "a", encoding="utf-8") as lines:
            said = {"path": self.path, "type": self.headers["Content-Type"], "body": json.loads(body)}
            lines.write(json.dumps(said) + "\n")
        self.send_response(int(status))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
