# Writes its arguments, directory and environment to seen.json, then serves on a socket: descriptor
# 3, or the port in its first argument.
import http.server
import json
import os
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def address_string(self):
        return "client"


seen = {"words": sys.argv[1:], "directory": os.getcwd(), "environment": dict(os.environ)}
with open(os.environ["HOME"] + "/seen.json", "w") as file:
    json.dump(seen, file)
family = socket.AF_UNIX if sys.argv[1] == "3" else socket.AF_INET
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
if family == socket.AF_UNIX:
    server.socket = socket.socket(fileno=3)
else:
    server.server_address = ("127.0.0.1", int(sys.argv[1]))
    server.server_bind()
    server.server_activate()
server.serve_forever()
