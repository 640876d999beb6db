"""What the checks of plugins against their providers' SDKs share (`plugins/*/checks`): a server that keeps what it is asked, and Easel with one
plugin. Needs nothing that is installed.
"""

import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = "a-key-of-nobody"


class Server(ThreadingHTTPServer):
    """Answers each POST with `answer()`, a media type and bytes, and keeps the path, the headers and the body."""

    def __init__(self):
        self.asked, self.answer = [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.asked.append((self.path, self.headers, body(self)))
                kind, reply = server.answer()
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server_port}"


def body(handler):
    if length := handler.headers.get("content-length"):
        return handler.rfile.read(int(length))
    pieces = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


@contextmanager
def easel(program, plugin, component, settings, model):
    """Easel with a plugin that reads `KEY` from `A_KEY`; gives its address once it lists the model."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "plugins").mkdir()
        shutil.copy(component, folder / "plugins" / f"{plugin}.wasm")
        (folder / "easel.toml").write_text(f"[plugin.{plugin}]\ncredentials.api_key = {{ env = \"A_KEY\" }}\n{settings}\n")
        environment = {"A_KEY": KEY, "PATH": "/usr/bin:/bin"}
        command = [program, "serve", "--mode", "stub", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            words = (word for line in process.stderr for word in line.replace('"', " ").split())
            address = next(word for word in words if word.startswith("http://127.")).rstrip("/")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            until = time.monotonic() + 60
            while f'"{model}"' not in urllib.request.urlopen(f"{address}/v1/models").read().decode():
                assert time.monotonic() < until, "the plugin does not appear"
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait()
