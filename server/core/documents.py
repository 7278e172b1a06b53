"""Helpers for stored documents: `_kuzzle_info`, deep merge, and the size limit of a response."""

from collections.abc import Mapping

import orjson

from protocol.errors import error


def merge(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    """Return `old` updated with `new`, objects merged member by member."""
    merged = dict(old)
    for name, value in new.items():
        present = merged.get(name)
        is_merged = isinstance(present, dict) and isinstance(value, dict)
        merged[name] = merge(present, value) if is_merged else value  # type: ignore[arg-type]
    return merged


def make_info(author: str, now_ms: int) -> dict[str, object]:
    """Return the `_kuzzle_info` of something new."""
    return {"author": author, "createdAt": now_ms, "updatedAt": None, "updater": None}


MOST_ANSWERED_BYTES = 16 * 1024 * 1024
"""Maximum size of all documents that one response returns by ID, as JSON without spaces."""


class Weight:
    """Total size of the documents of one response; ApiError 413 beyond the limit."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, document: Mapping[str, object]) -> None:
        """Add the size of a document."""
        self._bytes += len(orjson.dumps(document))
        if self._bytes > MOST_ANSWERED_BYTES:
            raise error("services.storage.get_limit_exceeded")
