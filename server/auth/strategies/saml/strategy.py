"""Strategy `saml`: login with a SAML identity provider, and the check of its settings."""

from collections.abc import Iterator
from datetime import UTC, datetime

from protocol.errors import LocalError
from server.auth.strategies.base import Examined, Parts, StrategyKind
from server.auth.strategies.federated import Accounts
from server.auth.strategies.saml.provider import RESPONSE, SamlProviders
from server.auth.strategies.saml.settings import SamlSettings


class SamlAccounts(Accounts):
    """Logs in users who return from an identity provider."""

    comes_back = (RESPONSE,)
    state_field = "RelayState"

    def __init__(self, name: str, settings: SamlSettings, parts: Parts) -> None:
        super().__init__(name, settings, SamlProviders(settings), parts)


def examine(name: str, settings: SamlSettings, is_online: bool) -> Examined:
    """Report what a strategy will do and what is missing; there is no online check."""
    try:
        providers = SamlProviders(settings)
    except LocalError as reason:
        return Examined((), (str(reason),))
    lacking = []
    if not settings.callback_url.rstrip("/").endswith(f"/_login/{name}"):
        lacking.append(f"callbackUrl: expected a URL that ends in /_login/{name}")
    return Examined((*_facts_of(settings), *_facts_of_idps(providers)), tuple(lacking))


def describe(settings: SamlSettings) -> str:
    """Return the metadata to register with providers."""
    return SamlProviders(settings).metadata()


def _facts_of(settings: SamlSettings) -> Iterator[str]:
    yield f"entity id: {settings.entity_id}"
    yield f"assertion consumer service: {settings.callback_url}"
    yield f"requests are {'signed' if settings.key else 'not signed'}"


def _facts_of_idps(providers: SamlProviders) -> Iterator[str]:
    now = datetime.now(UTC)
    for name, idp in providers.idps.items():
        yield f"{name}: {idp.settings.entity_id}, requests go to {idp.settings.url}"
        yield f"{name}: user id: {idp.settings.identifier_attribute or 'the NameID'}"
        for one in idp.certificates():
            ends = f"{one.not_valid_after_utc:%Y-%m-%d}"
            note = " (expired, still trusted)" if one.not_valid_after_utc < now else ""
            yield f"{name}: signing certificate valid until {ends}{note}"


KIND = StrategyKind(SamlSettings, SamlAccounts, examine=examine, describe=describe)
