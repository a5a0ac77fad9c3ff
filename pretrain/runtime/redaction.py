"""Secrets stay out of what is written: passwords and tokens in URIs and environment variables.

Pure. Must hold: what is redacted still says where it points.
"""

from __future__ import annotations

import re

HIDDEN = "***"
_IN_URI = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^/@\s]+)@")
_IN_QUERY = re.compile(
    r"(?i)(?P<name>[?&;](?:[\w-]*(?:token|secret|password|passwd|api_?key|access_?key|signature|sig)[\w-]*)=)[^&;\s]+"
)
_NAMES = re.compile(r"(?i)token|secret|passw|credential|api_?key|access_?key|private|auth|cookie|session|signature")


def redacted(text: str) -> str:
    """The text with what stands before the @ of URIs, and the values of telling query arguments, hidden."""
    return _IN_QUERY.sub(rf"\g<name>{HIDDEN}", _IN_URI.sub(rf"\g<scheme>{HIDDEN}@", text))


def is_secret(name: str) -> bool:
    """Whether the name of a variable or key says that its value is a secret."""
    return _NAMES.search(name) is not None
