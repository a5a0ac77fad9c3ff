"""A real `mlflow server` that can be killed, and a proxy before it that makes it slow, ill or forgetful."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from patience import HANG, limit, until

from pretrain.runtime.rendezvous import HeldPort


class Server:
    """`mlflow server` or `mlflow ui`, SQLite behind it, one worker. The store outlives it. As a context, it runs."""

    def __init__(self, folder: Path, store: Path, command: str = "server") -> None:
        self.folder, self.store, self.command, self.held = folder, store, command, HeldPort()
        self.port = self.held.number
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.begin()
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def begin(self) -> None:
        """Start it, and do not wait."""
        words = [
            sys.executable, "-m", "mlflow", self.command, "--backend-store-uri", f"sqlite:///{self.store}",
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1", "--port", str(self.port),
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip

    def wait(self) -> None:
        """Until it answers."""
        log = self.folder / "server.log"
        until(lambda: self._answers() or self._ended(), log.read_text, 0.2)
        assert not self._ended(), log.read_text()

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=limit(30)) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """kill -9, of its worker too."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until(lambda: not self._answers())


class Proxy:
    """Stands before a server. `mode`: well; slow (no answer before the mode is another); ill (500 for all); lossy
    (takes requests to the server, and gives one answer in three, the third); mute (takes them there, and gives none);
    late (a new run is made once whoever asked for it has given up and asked again). `asked`: requests that came; `met`:
    those that met the fault; `under_way`: those that are not answered yet, whoever still waits for them."""

    def __init__(self, port: int) -> None:
        self.mode, self.asked, self.met, self.late, self.under_way = "well", 0, 0, 0, 0
        self.counting = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def counted(self) -> None:
                with proxy.counting:
                    proxy.asked += 1
                    proxy.under_way += 1
                    mode = proxy.mode
                    proxy.met += mode != "well"
                    number = proxy.met
                try:
                    self.answer(mode, number)
                finally:
                    with proxy.counting:
                        proxy.under_way -= 1

            def answer(self, mode: str, number: int) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if mode == "ill":
                    self.send_error(500, "the store is ill")
                    return
                if mode == "slow":
                    until(lambda: proxy.mode != "slow")
                if mode == "late" and self.path.endswith("/runs/create"):
                    with proxy.counting:
                        proxy.late += 1
                    self.connection.recv(1, socket.MSG_PEEK)  # nothing comes but the end
                    until(lambda: proxy.late > 1)
                server = HTTPConnection("127.0.0.1", port, timeout=HANG)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                    server.request(self.command, self.path, body, headers)
                    answer = server.getresponse()
                    content = answer.read()
                except (HTTPException, OSError):
                    self.send_error(502, "nobody is behind the proxy")
                    return
                finally:
                    server.close()
                if mode == "mute" or (mode == "lossy" and number % 3):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = counted

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
