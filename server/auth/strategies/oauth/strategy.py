"""Strategy `oauth`: login with OAuth, OpenID Connect or OpenID.

The provider's tokens are discarded after the request that brought them (security check O8).
"""

import logging

from protocol.errors import LocalError
from server.auth.audit.events import tell
from server.auth.audit.notices import ENROLLED
from server.auth.strategies.base import Authenticated, Parts, StrategyKind
from server.auth.strategies.credential_rows import owner_of, present
from server.auth.strategies.federated import Accounts, Profile
from server.auth.strategies.oauth.check import backends, examine
from server.auth.strategies.oauth.provider import Provider
from server.auth.strategies.oauth.settings import OAuthSettings
from server.core.ids import is_id
from server.storage.base import Present
from server.storage.rows import Table

_LOG = logging.getLogger("manykeys.providers")


class OAuth(Accounts):
    """Logs in users who return from a provider of OAuth or OpenID."""

    # A request with one of these is a response of a provider, and not valid without a state.
    comes_back = (
        *("code", "error", "oauth_token", "denied", "openid.mode", "id_token", "ticket", "sso"),
    )

    def __init__(self, name: str, settings: OAuthSettings, parts: Parts) -> None:
        super().__init__(name, settings, Provider(settings), parts)
        if settings.email_field:
            raise LocalError(
                "emailField: users write their content themselves, so an address in it proves "
                "nothing; remove it and set emailStrategy to a strategy of kind magic"
            )
        self._email_strategy = settings.email_strategy if settings.links_by_email else ""

    async def find_linked(self, profile: Profile) -> Authenticated | None:
        """Return the user who has proved, with `emailStrategy`, the address that the provider has
        verified; these credentials become theirs. None if there is none, or if they have an account
        of this provider already, which the log says."""
        address = profile.attributes.get("email")
        is_verified = profile.attributes.get("email_verified") is True
        if (
            not self._email_strategy
            or not isinstance(address, str)
            or not address
            or not is_verified
        ):
            return None
        if not is_id(address):
            return None
        strategy = self._email_strategy
        proved = await self._storage.get(Table.CREDENTIALS, strategy=strategy, id=address)
        if proved is None:
            return None
        kuid = owner_of(proved).kuid
        if await self.exists(kuid):
            _LOG.warning(
                "%s: another account with the address of user %s was not linked", self.name, kuid
            )
            tell(reason="the address belongs to a user who has another account of this provider")
            return None
        tell(subject=kuid, notice=ENROLLED)
        data = self.data_of(self.credentials_of(profile))
        entered = self.inserted(profile.uid, kuid, data)
        return Authenticated(kuid, (Present(Table.USERS, {"kuid": kuid}), present(proved), entered))


KIND = StrategyKind(OAuthSettings, OAuth, examine=examine, offers=backends)
