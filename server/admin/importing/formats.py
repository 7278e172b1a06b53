"""Import file parser: the documents of each line, by collection.

The formats are those that Kuzzle and its tools write; docs/import.md shows them. Documents are
validated later, before they are stored. Independent of the database.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import BinaryIO, NamedTuple

from protocol.http11.body import parse_json

MOST_LINE_BYTES = 4 * 1024 * 1024
"""Maximum size of a user document, with its envelope."""
MOST_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Maximum size of a file that is one document on many lines, which is read as a whole."""
_CHUNK_BYTES = 1024 * 1024
_MAX_NAME_BYTES = 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Kind(Enum):
    """Document types, in the order in which they are stored: each needs those before it."""

    __hash__ = object.__hash__  # as that of storage's tables

    ROLES = "roles"
    PROFILES = "profiles"
    USERS = "users"
    CREDENTIALS = "credentials"


_KINDS = {kind.value: kind for kind in Kind}
_LEFT_OUT = frozenset({"api-keys", "config", "installations", "tokens", "validations"})
"""Other collections of Kuzzle, which are skipped."""
_FIXTURES = ("roles", "profiles", "users")
_STORE = "kuzzle."
_PASSWORDS = "plugin-kuzzle-plugin-auth-passport-local.users"  # noqa: S105  (an index's name)
_NONE: Mapping[str, object] = {}
_SHAPE = 'an object with "collection", "_id" and "_source", or one with roles, profiles or users'


class BadLine(Exception):
    """A line without a valid document; the message says what was expected."""


class Line(NamedTuple):
    """One line of a file, counted from 1; `data` is None if it is too long. `end` is its end offset
    in bytes. A tuple, like a record: a file has millions of them."""

    number: int
    data: bytes | None
    end: int

    @property
    def size_bytes(self) -> int:
        """Size of the line."""
        return len(self.data or b"")

    def __repr__(self) -> str:
        """Identify the line, without its contents."""
        return f"Line({self.number})"


class Record(NamedTuple):
    """One document. `credentials` are those of a user, by strategy, if the line contains them;
    `is_disabled` is None if the line does not contain it."""

    kind: Kind
    id: str
    source: Mapping[str, object]
    credentials: Mapping[str, object] = _NONE
    is_disabled: bool | None = None
    strategy: str = "local"

    def __repr__(self) -> str:
        """Identify the document, without its contents."""
        return f"Record({self.kind.value}, {self.id!r})"


def find_first_kind(file: BinaryIO) -> Kind:
    """Return the first kind whose name occurs anywhere in a file: the file need not be read for
    kinds before it."""
    names = {kind: f'{kind.value}"'.encode() for kind in Kind}
    found, tail = set(), b""
    while chunk := file.read(_CHUNK_BYTES):
        chunk = tail + chunk
        found |= {kind for kind, name in names.items() if kind not in found and name in chunk}
        tail = chunk[-_MAX_NAME_BYTES:]
    return next((kind for kind in Kind if kind in found), Kind.USERS)


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines that are not blank; a file that is one document, as one line."""
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
    """Return the documents of a line; none for a collection that is skipped."""
    if line.data is None:
        raise BadLine(f"expected at most {MOST_LINE_BYTES} bytes")
    try:
        value = parse_json(line.data, len(line.data))
    except ValueError:
        raise BadLine("not valid JSON, or nested too deeply") from None
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
    """Return the collection that an index of Kuzzle's Elasticsearch contains, None for another
    index."""
    name = index.lstrip("%&") if isinstance(index, str) else ""
    if name == _PASSWORDS:
        return Kind.CREDENTIALS.value
    collection = name.removeprefix(_STORE)
    return collection if collection != name and collection in _FIXTURES else None


def _read_document(kind: Kind, value: Mapping[str, object]) -> Record:
    name, source = value.get("_id"), value.get("_source")
    if not isinstance(name, str) or not name:
        raise BadLine("_id: expected a string")
    if not isinstance(source, dict):
        raise BadLine("_source: expected an object")
    credentials, is_disabled = value.get("credentials", _NONE), value.get("disabled")
    if credentials is not _NONE and not isinstance(credentials, dict):
        raise BadLine("credentials: expected an object")
    if is_disabled is not None and not isinstance(is_disabled, bool):
        raise BadLine("disabled: expected true or false")
    strategy = value.get("strategy", "local")
    if not isinstance(strategy, str):
        raise BadLine("strategy: expected a string")
    return Record(kind, name, source, credentials, is_disabled, strategy)


def _read_fixtures(value: Mapping[str, object]) -> list[Record]:
    """Parse the body of Kuzzle's admin:loadSecurities: documents by ID, by collection."""
    records = []
    for collection in _FIXTURES:
        by_id = value.get(collection, {})
        if not isinstance(by_id, dict):
            raise BadLine(f"{collection}: expected an object with documents by id")
        for name, given in by_id.items():
            if not isinstance(given, dict):
                raise BadLine(f"{collection}: expected an object for each id")
            document: dict[str, object] = {"_id": name, "_source": given}
            # As in the body of createUser, or the user's document alone.
            if collection == "users" and isinstance(given.get("content"), dict):
                document = {"credentials": {}, **given, "_id": name, "_source": given["content"]}
            records.append(_read_document(_KINDS[collection], document))
    return records
