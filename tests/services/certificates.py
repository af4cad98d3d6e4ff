"""Certificates for brokers and clients of this machine, in the files that each of them reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority"]


class Authority:
    """Signs certificates; ``file`` is its own, which those who trust it are given."""

    def __init__(self, file: Path) -> None:
        """Make it up, and write its certificate."""
        self.file = file
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(file))

    def issue(self, file: Path, name: str) -> Path:
        """Write the key and the certificate of somebody to one file, and return it.

        The key comes first and as PKCS #8: Kafka takes no other.
        """
        issued = self._authority.issue_cert(name)
        key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(plain + b"".join(each.bytes() for each in issued.cert_chain_pems))
        return file
