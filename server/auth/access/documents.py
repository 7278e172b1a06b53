"""What roles and profiles have in common: a document under an id, bounded in size, with its
`_kuzzle_info` (contract/03 §1).

Knows nothing of what such a document may say.
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
# The id stands beside the document, and who wrote it when in a column of its own.
_NOT_CONTENT = ("_id", "_kuzzle_info")


@dataclass(frozen=True, slots=True)
class Document:
    """A role or a profile; `info` is its `_kuzzle_info`."""

    id: str
    body: dict[str, object]
    info: dict[str, object]

    def source(self) -> dict[str, object]:
        """Give it as the API shows it as `_source`."""
        return {**self.body, "_kuzzle_info": self.info}

    def row(self) -> Row:
        """Give it as it is stored."""
        return {"id": self.id, "body": self.body, "info": self.info}


async def read_document(storage: Storage, table: Table, name: str) -> Document | None:
    """Give a stored document, or None."""
    row = await storage.get(table, id=name) if is_id(name) else None
    if row is None:
        return None
    body, info = cast(dict[str, object], row["body"]), cast(dict[str, object], row["info"])
    return Document(name, body, info)


async def get_each(get: Callable[[str], Awaitable[Document]], ids: Iterable[str]) -> list[Document]:
    """Give the documents with these ids, as long as one answer has room for them."""
    weight, found = Weight(), []
    for name in ids:
        found.append(await get(name))
        weight.add(found[-1].body)
    return found


def content_of(given: Mapping[str, object]) -> dict[str, object]:
    """Give what a caller may write of a document; ApiError 400 if it is too much."""
    content = {name: value for name, value in given.items() if name not in _NOT_CONTENT}
    if len(orjson.dumps(content)) > MOST_DOCUMENT_BYTES:
        limit = f"a document of at most {MOST_DOCUMENT_BYTES} bytes"
        raise error("api.assert.invalid_argument", "body", limit)
    return content


def make_replaced_info(author: str, now_ms: int) -> dict[str, object]:
    """Give the `_kuzzle_info` of what was written whole, whether it was there before or not."""
    return {"author": author, "createdAt": now_ms, "updatedAt": now_ms, "updater": author}
