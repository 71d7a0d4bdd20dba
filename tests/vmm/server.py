# SPDX-License-Identifier: Apache-2.0
"""HTTP on a unix socket for the VMMs that tests have: who answers is a State with take(method, path, body) and fault(error). How it is to
misbehave says MICROPOD_TEST_VMM: "no-socket", "ends-at-once", "dies:ROUTE", "refuses:ROUTE", "silent:ROUTE"."""
import http.server
import json
import os
import pathlib
import socketserver
import sys
import time

from description import Refused

MISCHIEF, _, AT = os.environ.get("MICROPOD_TEST_VMM", "").partition(":")


def misbehave(path):
    if AT != path:
        return
    if MISCHIEF == "dies":
        os._exit(3)
    if MISCHIEF == "silent":
        time.sleep(1000)
    if MISCHIEF == "refuses":
        raise Refused("because the test says so")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        try:
            body = json.loads(self.rfile.read(length)) if length else None
            result, status = self.state.take(self.command, self.path, body), 204
        except (Refused, json.JSONDecodeError, KeyError, TypeError) as error:
            result, status = self.state.fault(error), 400
        text = b"" if result is None else json.dumps(result).encode()
        self.send_response(200 if result is not None and status == 204 else status)
        if text:
            self.send_header("Content-Type", "application/json")
        if text or status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = answer

    def log_message(self, *words):
        pass

    def address_string(self):
        return "-"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(path, state, name):
    if MISCHIEF == "no-socket":
        time.sleep(1000)
    if MISCHIEF == "ends-at-once":
        sys.exit(f"{name}: bad day")
    if pathlib.Path(path).exists():
        sys.exit(f"{name}: {path} exists")
    Handler.state = state
    Server(path, Handler).serve_forever()
