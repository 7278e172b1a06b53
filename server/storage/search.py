"""Search requests and results of a database backend: a view of a table as documents, a query, a
sort order, a page.

Independent of SQL, the wire and the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.storage.query import Everything, Query
from server.storage.rows import Row, Table

ID = "_id"
Key = str | int | float | None
"""The sort value of a document: None if it has no value."""


@dataclass(frozen=True, slots=True)
class View:
    """A table's rows as documents. Fields are `columns`, or lie in JSON columns: in `documents` by
    their first name, in `rest` all others. Columns of bytes read as hexadecimal.

    `key` is the unique column, which sorts last; `never` is the value of None.
    """

    table: Table
    key: str
    columns: Mapping[str, str]
    documents: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""
    never: int = -1


USERS = View(
    Table.USERS,
    key="kuid",
    columns={ID: "kuid"},
    documents={"profileIds": "profile_ids", "_kuzzle_info": "info"},
    rest="content",
)
PROFILES = View(
    Table.PROFILES, key="id", columns={ID: "id"}, documents={"_kuzzle_info": "info"}, rest="body"
)
ROLES = View(
    Table.ROLES, key="id", columns={ID: "id"}, documents={"_kuzzle_info": "info"}, rest="body"
)
API_KEYS = View(
    Table.API_KEYS,
    key="id",
    columns={
        ID: "id",
        "userId": "kuid",
        "description": "description",
        "expiresAt": "expires_at",
        "ttl": "ttl",
        "fingerprint": "token_hash",
    },
    documents={"_kuzzle_info": "info"},
)
CREDENTIALS = View(
    Table.CREDENTIALS, key="id", columns={ID: "id", "username": "id", "kuid": "kuid"}
)


@dataclass(frozen=True, slots=True)
class Order:
    """A field to sort by; of several values the first one in this order counts, of a long string
    its start. Documents without a value come last."""

    field: str
    is_descending: bool = False


BY_ID = Order(ID)


@dataclass(frozen=True, slots=True)
class Search:
    """A page of the rows that a query matches.

    Columns must equal `where`. The page has `size` rows, `start` rows after `after`: the sort keys
    of a row, or only the first of them. Without `is_counted` the total is left out.
    """

    view: View
    query: Query = Everything()
    where: Mapping[str, str] = field(default_factory=dict)
    sort: tuple[Order, ...] = ()
    start: int = 0
    size: int = 10
    after: tuple[Key, ...] = ()
    is_counted: bool = True

    def orders(self) -> tuple[Order, ...]:
        """Return the complete sort order: IDs break ties."""
        names = [order.field for order in self.sort]
        if ID in names:
            return self.sort[: names.index(ID) + 1]
        return (*self.sort, BY_ID)


@dataclass(frozen=True, slots=True)
class Found:
    """A page. `total` counts all matches, None unless requested; `last` are the sort keys of the
    page's last row, by `Search.orders`."""

    rows: list[Row]
    total: int | None
    last: tuple[Key, ...] = ()


class TooSlow(Exception):
    """A search exceeded the time limit."""


class TooLarge(Exception):
    """A page exceeded the size limit."""
