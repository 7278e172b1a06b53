"""Helpers for stored documents: `_kuzzle_info`, deep merge, and the weight of an answer."""

from collections.abc import Mapping

import orjson

from protocol.errors import error


def merge(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    """Give `old` with what `new` says, objects merged member by member."""
    merged = dict(old)
    for name, value in new.items():
        present = merged.get(name)
        is_merged = isinstance(present, dict) and isinstance(value, dict)
        merged[name] = merge(present, value) if is_merged else value  # type: ignore[arg-type]
    return merged


def make_info(author: str, now_ms: int) -> dict[str, object]:
    """Give the `_kuzzle_info` of something new (contract/03 §1, with the real author)."""
    return {"author": author, "createdAt": now_ms, "updatedAt": None, "updater": None}


MOST_ANSWERED_BYTES = 16 * 1024 * 1024
"""Of all documents that one answer gives by their ids, as JSON without spaces."""


class Weight:
    """What the documents of one answer weigh; ApiError 413 once it is too much."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, document: Mapping[str, object]) -> None:
        """Count a further document."""
        self._bytes += len(orjson.dumps(document))
        if self._bytes > MOST_ANSWERED_BYTES:
            raise error("services.storage.get_limit_exceeded")
