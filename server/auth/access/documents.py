"""Documents of roles and profiles: what both have in common, a body with an ID, a size limit and
`_kuzzle_info`.

Knows nothing of the content of such a document.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from protocol.errors import error
from server.core.documents import Weight
from server.core.ids import is_id
from server.storage.base import Storage
from server.storage.rows import Row, Table

MOST_DOCUMENT_BYTES = 256 * 1024
"""Of one role or profile, as JSON without spaces."""
# The ID is shown beside the document, and its author and time are in a column of their own.
_NOT_CONTENT = ("_id", "_kuzzle_info")


@dataclass(frozen=True, slots=True)
class Document:
    """A role or a profile; `info` is its `_kuzzle_info`."""

    id: str
    body: dict[str, object]
    info: dict[str, object]

    def source(self) -> dict[str, object]:
        """Return the document the API shows as `_source`."""
        return {**self.body, "_kuzzle_info": self.info}

    def row(self) -> Row:
        """Return the document as stored."""
        return {"id": self.id, "body": self.body, "info": self.info}


async def read_document(storage: Storage, table: Table, name: str) -> Document | None:
    """Return a stored document, or None."""
    row = await storage.get(table, id=name) if is_id(name) else None
    if row is None:
        return None
    body, info = cast(dict[str, object], row["body"]), cast(dict[str, object], row["info"])
    return Document(name, body, info)


async def get_each(get: Callable[[str], Awaitable[Document]], ids: Iterable[str]) -> list[Document]:
    """Return the documents with these IDs, up to the size limit of one response."""
    weight, found = Weight(), []
    for name in ids:
        found.append(await get(name))
        weight.add(found[-1].body)
    return found


def content_of(given: Mapping[str, object]) -> dict[str, object]:
    """Return the members of a document that a client may write; ApiError 400 if they are too
    large."""
    content = {name: value for name, value in given.items() if name not in _NOT_CONTENT}
    if len(orjson.dumps(content)) > MOST_DOCUMENT_BYTES:
        limit = f"a document of at most {MOST_DOCUMENT_BYTES} bytes"
        raise error("api.assert.invalid_argument", "body", limit)
    return content


def make_replaced_info(author: str, now_ms: int) -> dict[str, object]:
    """Return the `_kuzzle_info` of a document that was replaced, whether it existed or not."""
    return {"author": author, "createdAt": now_ms, "updatedAt": now_ms, "updater": author}
