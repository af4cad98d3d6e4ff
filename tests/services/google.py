"""As much of Google Cloud as a submission to Dataflow meets, in this process.

It gives tokens, takes uploads, and takes jobs, which it keeps to be looked at; it runs nothing.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google_crc32c import Checksum

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FakeGoogle"]


class FakeGoogle:
    """A server from its making to ``close``.

    Attributes:
        url: where it listens; the word localhost in it makes Beam accept it as Dataflow.
        objects: what was uploaded, by ``bucket/name``.
        jobs: the job requests, as JSON.
        secrets: what Secret Manager holds, by resource name.
    """

    def __init__(self, folder: Path) -> None:
        """Start; credentials are written to ``folder``."""
        self.objects: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.secrets: dict[str, str] = {}
        self.uploads: dict[str, bytearray] = {}
        fake = self

        class Handler(_Handler):
            google = fake

        self._server = ThreadingHTTPServer(("localhost", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.credentials = folder / "service-account.json"
        self.credentials.write_text(json.dumps(self._account()))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead Google's clients here."""
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials),
            "STORAGE_EMULATOR_HOST": self.url,
        }

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _account(self) -> dict[str, str]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "tests@my-project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }


class _Handler(BaseHTTPRequestHandler):
    google: FakeGoogle
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            self._answer({"kind": "storage#bucket", "name": found[1]})
        elif found := re.fullmatch(r"/v1/(projects/.*/secrets/.*):access", path):
            secret = self.google.secrets.get(found[1])
            content = base64.b64encode((secret or "").encode()).decode()
            self._answer({"payload": {"data": content}}, 200 if secret is not None else 403)
        else:
            self._answer({"error": {"code": 404, "message": "not found"}}, 404)

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if address.path == "/token":
            self._answer({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})
        elif found := re.fullmatch(r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o", address.path):
            name = parse_qs(address.query).get("name") or [json.loads(body)["name"]]
            where = f"{found[1]}/{name[0]}"
            self.google.uploads[where] = bytearray()
            self._answer({}, location=f"{self.google.url}/session/{where}")
        elif address.path.endswith("/jobs"):
            job = json.loads(body)
            self.google.jobs.append(job)
            self._answer({"id": "job-1", "name": job["name"], "projectId": "my-project"})
        else:
            self._answer({"error": {"code": 404, "message": "not found"}}, 404)

    def do_PUT(self) -> None:
        where = unquote(urlsplit(self.path).path).removeprefix("/session/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upload = self.google.uploads[where]
        upload += body
        if self.headers["Content-Range"].endswith("/*"):
            self._answer({}, 308, received=f"bytes=0-{len(upload) - 1}")
            return
        self.google.objects[where] = bytes(upload)
        bucket, _, name = where.partition("/")
        crc32c = base64.b64encode(Checksum(bytes(upload)).digest()).decode()
        size = str(len(upload))
        self._answer({"bucket": bucket, "name": name, "size": size, "crc32c": crc32c})

    def _answer(
        self, content: dict[str, Any], status: int = 200, location: str = "", received: str = ""
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        if received:
            self.send_header("Range", received)
        self.end_headers()
        self.wfile.write(body)
