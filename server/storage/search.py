"""What a search asks of a backend and what it gives: a view of a table as documents, a query, an
order, a page.

Knows nothing of SQL, of the wire, or of who asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.storage.query import Everything, Query
from server.storage.rows import Row, Table

ID = "_id"
Key = str | int | float | None
"""What a document is sorted by: None where it has no value."""


@dataclass(frozen=True, slots=True)
class View:
    """A table's rows as documents. Fields are `columns`, or lie in JSON columns: in `documents` by
    their first name, in `rest` all others. Columns of bytes read as hexadecimal.

    `key` is the column that tells rows apart, which sorts last; `never` is what None reads as.
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
    """A field to sort by; of several values the first one in this order counts, of a long text its
    start. Documents without one come last."""

    field: str
    is_descending: bool = False


BY_ID = Order(ID)


@dataclass(frozen=True, slots=True)
class Search:
    """A page of the rows that a query matches.

    Columns must equal `where`. The page has `size` rows, `start` rows further on than `after`: the
    sort keys of a row, of which the first ones will do. Without `is_counted` the total is left out.
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
        """Give the whole order: ids decide where nothing else does."""
        names = [order.field for order in self.sort]
        if ID in names:
            return self.sort[: names.index(ID) + 1]
        return (*self.sort, BY_ID)


@dataclass(frozen=True, slots=True)
class Found:
    """A page. `total` counts all matches, None if that was not asked for; `last` are the sort keys
    of the page's last row, by `Search.orders`."""

    rows: list[Row]
    total: int | None
    last: tuple[Key, ...] = ()


class TooSlow(Exception):
    """A search took longer than any may."""


class TooLarge(Exception):
    """A page weighs more than any may."""
