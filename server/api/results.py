"""Readers and results shared by several controllers."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from protocol.api.request import Json, Request
from protocol.errors import ApiError, error
from server.api.actions import Outcome
from server.api.arguments import body_names, read_body, read_text
from server.api.context import AppContext
from server.auth.access.documents import Document
from server.auth.access.permissions import Rights
from server.auth.audit.events import MOST_USER_AGENT_CHARACTERS
from server.auth.identity.user import User
from server.auth.sessions.issuer import Issued
from server.auth.sessions.principal import Caller
from server.core.durations import NEVER


def write_login(
    services: AppContext,
    request: Request,
    issued: Issued,
    *,
    in_cookie: bool = False,
    more: Mapping[str, Json] = MappingProxyType({}),
    cookies: tuple[str, ...] = (),
) -> Outcome:
    """Return the response with a session token, in a cookie only if this request, or an earlier
    step of the login, asked for it; with the members `more` and further `cookies`."""
    result: dict[str, Json] = {"_id": issued.kuid, "expiresAt": issued.expires_at_ms}
    headers: dict[str, str] = {}
    if in_cookie or services.cookies.is_wanted(request):
        headers = services.cookies.write(request, issued)
    else:
        result["jwt"] = issued.token
    result["ttl"] = issued.ttl_ms
    return Outcome({**result, **more}, headers=headers, cookies=cookies, is_private=True)


def shown_expiry(caller: Caller) -> int:
    """Return the expiry of a token on the wire: ms since 1970, -1 if it never expires."""
    ends = caller.expires_at_ms
    return NEVER if ends == float("inf") else int(ends)


def describe_session(
    services: AppContext, request: Request, strategy: str, factor: str = ""
) -> dict[str, object]:
    """Return the description, for the list of sessions, of a session that this request creates;
    `factor` is the second factor, if one was required."""
    return {
        "address": services.addresses.of(request),
        "userAgent": request.headers.get("user-agent", "")[:MOST_USER_AGENT_CHARACTERS],
        "strategy": strategy,
        **({"secondFactor": factor} if factor else {}),
    }


def read_strategy(services: AppContext, request: Request) -> str:
    """Return the name of the strategy a request is about; ApiError 400 for an unknown one."""
    name = read_text(request, "strategy")
    services.strategies.get(name)
    return name


def read_credential_id(request: Request) -> str | None:
    """Return the ID of the one key to delete; None for all of them. An invalid ID must not delete
    all keys of a user."""
    return read_text(request, "credentialId") if "credentialId" in request.args else None


def write_user(user: User) -> Json:
    """Return a user as the API shows them, `disabled` only if they are."""
    shown: dict[str, Json] = {"_id": user.kuid, "_source": user.source()}
    return {**shown, "disabled": True} if user.is_disabled else shown


def write_document(document: Document) -> Json:
    """Return a role or a profile as the API shows it."""
    return {"_id": document.id, "_source": document.source()}


def write_check(rights: Rights, request: Request) -> Json:
    """Return whether these rights allow the request in the body, even if the action does not exist.
    A name that is not a string counts as absent."""
    body = read_body(request)
    controller, name = body.get("controller"), body.get("action")
    if not isinstance(controller, str):
        raise error("api.assert.missing_argument", "body.controller")
    if not isinstance(name, str):
        raise error("api.assert.missing_argument", "body.action")
    return {"allowed": rights.allows(controller, name, body)}


def read_ids(request: Request, most: int, refusal: str) -> list[str]:
    """Return the ids in the body, each once; ApiError `refusal` if there are more than `most`."""
    return limit_ids(body_names(request, "ids"), most, refusal)


def limit_ids(ids: Iterable[str], most: int, refusal: str) -> list[str]:
    """Return ids, each once; ApiError `refusal` if there are more than `most`."""
    different = list(dict.fromkeys(ids))
    if len(different) > most:
        raise error(refusal)
    return different


async def give_each(
    services: AppContext,
    request: Request,
    get_all: Callable[[Sequence[str]], Awaitable[Iterable[Document]]],
) -> Json:
    """Return the roles or profiles that the body's `ids` name."""
    most = services.config.limits.documents_fetch_count
    ids = read_ids(request, most, "services.storage.get_limit_exceeded")
    return {"hits": [write_document(found) for found in await get_all(ids)]}


async def delete_each(
    services: AppContext, request: Request, delete: Callable[[str], Awaitable[None]]
) -> Outcome:
    """Delete the documents in the body's `ids` one by one: an error does not stop the others."""
    most = services.config.limits.documents_write_count
    deleted: list[str] = []
    failed: list[tuple[str, ApiError]] = []
    for name in read_ids(request, most, "services.storage.write_limit_exceeded"):
        try:
            await delete(name)
        except ApiError as refused:
            failed.append((name, refused))
        else:
            deleted.append(name)
    return write_deleted(deleted, failed)


def write_deleted(deleted: list[str], failed: Iterable[tuple[str, ApiError]]) -> Outcome:
    """Return the IDs that were deleted and, with status 206, the errors of the others."""
    nested = []
    for name, refused in failed:
        refused.more |= {"document": {"_id": name}, "reason": refused.message}
        nested.append(refused)
    if not nested:
        return Outcome(deleted)
    partial = error("services.storage.incomplete_delete", nested=tuple(nested))
    return Outcome(deleted, status=partial.status, error=partial)
