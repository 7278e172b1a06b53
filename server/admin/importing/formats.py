"""Reads a file to be imported, line by line: which document of which collection each line holds.

The shapes are those that Kuzzle and its tools write; docs/import.md shows them. Whatever a line
says, its documents are checked by whoever stores them. Knows no store.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import BinaryIO, NamedTuple

from protocol.http11.body import parse_json

MOST_LINE_BYTES = 4 * 1024 * 1024
"""A user's greatest document, and all that may stand around it."""
MOST_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Of a file that is one document on many lines: such a one is read as a whole."""
_CHUNK_BYTES = 1024 * 1024
_MOST_NAME_BYTES = 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Kind(Enum):
    """What a document is; in this order they are stored, because each needs those before it."""

    __hash__ = object.__hash__  # as that of storage's tables

    ROLES = "roles"
    PROFILES = "profiles"
    USERS = "users"
    CREDENTIALS = "credentials"


_KINDS = {kind.value: kind for kind in Kind}
_LEFT_OUT = frozenset({"api-keys", "config", "installations", "tokens", "validations"})
"""Other collections of the reference's: nothing of theirs is of use here (contract/03 §1)."""
_FIXTURES = ("roles", "profiles", "users")
_STORE = "kuzzle."
_PASSWORDS = "plugin-kuzzle-plugin-auth-passport-local.users"  # noqa: S105  (an index's name)
_NONE: Mapping[str, object] = {}
_SHAPE = 'an object with "collection", "_id" and "_source", or one with roles, profiles or users'


class BadLine(Exception):
    """A line that holds no document; the text says what was expected."""


class Line(NamedTuple):
    """One line of a file, counted from 1; `data` is None if it is too long. `end` is how many bytes
    of the file have been read by then. A tuple, as a record is: a file has millions of them."""

    number: int
    data: bytes | None
    end: int

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.data or b"")

    def __repr__(self) -> str:
        """Say which line it is, and nothing of what it holds."""
        return f"Line({self.number})"


class Record(NamedTuple):
    """One document. `credentials` are a user's, by strategy, where they stand beside him;
    `is_disabled` None: the line does not say."""

    kind: Kind
    id: str
    source: Mapping[str, object]
    credentials: Mapping[str, object] = _NONE
    is_disabled: bool | None = None
    strategy: str = "local"

    def __repr__(self) -> str:
        """Say which document it is, and nothing of what it holds."""
        return f"Record({self.kind.value}, {self.id!r})"


def find_first_kind(file: BinaryIO) -> Kind:
    """Give the first kind whose name stands anywhere in a file: none before it needs a reading."""
    names = {kind: f'{kind.value}"'.encode() for kind in Kind}
    found, tail = set(), b""
    while chunk := file.read(_CHUNK_BYTES):
        chunk = tail + chunk
        found |= {kind for kind, name in names.items() if kind not in found and name in chunk}
        tail = chunk[-_MOST_NAME_BYTES:]
    return next((kind for kind in Kind if kind in found), Kind.USERS)


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Give the lines that are not blank; a file that is one document, as one line."""
    first = file.readline(MOST_LINE_BYTES + 1)
    if not first.isspace() and not _is_json(first):
        whole = first + file.read(MOST_DOCUMENT_BYTES + 1 - len(first))
        if len(whole) <= MOST_DOCUMENT_BYTES and _is_json(whole):
            yield Line(1, whole.removeprefix(_BYTE_ORDER_MARK), len(whole))
            return
    file.seek(0)
    number, end = 0, 0
    while data := file.readline(MOST_LINE_BYTES + 1):
        number, end = number + 1, end + len(data)
        if len(data) > MOST_LINE_BYTES:
            while not data.endswith(b"\n") and (data := file.readline(MOST_LINE_BYTES)):
                end += len(data)
            yield Line(number, None, end)
        elif not data.isspace():
            yield Line(number, data.removeprefix(_BYTE_ORDER_MARK) if number == 1 else data, end)


def parse_line(line: Line) -> list[Record]:
    """Give the documents of a line; none where it belongs to a collection that is left out."""
    if line.data is None:
        raise BadLine(f"expected at most {MOST_LINE_BYTES} bytes")
    try:
        value = parse_json(line.data, len(line.data))
    except ValueError:
        raise BadLine("this is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise BadLine(f"expected {_SHAPE}")
    if "_index" in value:
        name = _collection_of(value["_index"])
        return [] if name is None else [_read_document(_KINDS[name], value)]
    if "collection" in value:
        name = value["collection"]
        if isinstance(name, str) and name in _KINDS:
            return [_read_document(_KINDS[name], value)]
        if isinstance(name, str) and name in _LEFT_OUT:
            return []
        raise BadLine(f"collection: expected one of {', '.join(_KINDS)}")
    if value.get("type") in _FIXTURES and "content" in value:
        value = {value["type"]: value["content"]}
    if not value or not value.keys() <= set(_FIXTURES):
        raise BadLine(f"expected {_SHAPE}")
    return _read_fixtures(value)


def _is_json(data: bytes) -> bool:
    try:
        parse_json(data.removeprefix(_BYTE_ORDER_MARK), len(data))
    except ValueError:
        return False
    return True


def _collection_of(index: object) -> str | None:
    """Give the collection that an index of Kuzzle's Elasticsearch holds, None for any other one."""
    name = index.lstrip("%&") if isinstance(index, str) else ""
    if name == _PASSWORDS:
        return Kind.CREDENTIALS.value
    collection = name.removeprefix(_STORE)
    return collection if collection != name and collection in _FIXTURES else None


def _read_document(kind: Kind, value: Mapping[str, object]) -> Record:
    name, source = value.get("_id"), value.get("_source")
    if not isinstance(name, str) or not name:
        raise BadLine("_id: expected text")
    if not isinstance(source, dict):
        raise BadLine("_source: expected an object")
    credentials, is_disabled = value.get("credentials", _NONE), value.get("disabled")
    if credentials is not _NONE and not isinstance(credentials, dict):
        raise BadLine("credentials: expected an object")
    if is_disabled is not None and not isinstance(is_disabled, bool):
        raise BadLine("disabled: expected true or false")
    strategy = value.get("strategy", "local")
    if not isinstance(strategy, str):
        raise BadLine("strategy: expected text")
    return Record(kind, name, source, credentials, is_disabled, strategy)


def _read_fixtures(value: Mapping[str, object]) -> list[Record]:
    """Read the body of the reference's admin:loadSecurities: documents by id, by collection."""
    records = []
    for collection in _FIXTURES:
        by_id = value.get(collection, {})
        if not isinstance(by_id, dict):
            raise BadLine(f"{collection}: expected an object, documents by id")
        for name, given in by_id.items():
            if not isinstance(given, dict):
                raise BadLine(f"{collection}: expected an object for each id")
            document: dict[str, object] = {"_id": name, "_source": given}
            # As in the body of createUser, or the user's document alone.
            if collection == "users" and isinstance(given.get("content"), dict):
                document = {"credentials": {}, **given, "_id": name, "_source": given["content"]}
            records.append(_read_document(_KINDS[collection], document))
    return records
