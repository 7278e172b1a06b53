"""The strategy of the kind `oauth`.

The provider's own tokens are forgotten with the request that brought them (security check O8).
"""

from server.auth.audit import tell
from server.auth.notices import ENROLLED
from server.auth.strategies import Authenticated, Parts, StrategyKind
from server.auth.strategies.oauth.accounts import Accounts, Profile
from server.auth.strategies.oauth.examination import backends, examine
from server.auth.strategies.oauth.provider import Provider
from server.auth.strategies.oauth.settings import OAuthSettings
from server.storage.base import Present, Table
from server.storage.queries import IsIn
from server.storage.search import USERS, Search


class OAuth(Accounts):
    """Logs in who comes back from a provider of OAuth or OpenID."""

    # With one of these somebody comes back; without a state from nowhere.
    comes_back = (
        *("code", "error", "oauth_token", "denied", "openid.mode", "id_token", "ticket", "sso"),
    )

    def __init__(self, name: str, settings: OAuthSettings, parts: Parts) -> None:
        super().__init__(name, settings, Provider(settings), parts)
        self._email_field = settings.email_field if settings.links_by_email else ""

    async def find_linked(self, profile: Profile) -> Authenticated | None:
        """Give the one user whose address the provider has verified, with these credentials from
        now on; None if there is none, or if he has some of this provider's already."""
        address = profile.attributes.get("email")
        is_verified = profile.attributes.get("email_verified") is True
        if not self._email_field or not isinstance(address, str) or not address or not is_verified:
            return None
        wanted = IsIn(self._email_field, frozenset({address}))
        found = await self._storage.search(Search(USERS, wanted, size=2))
        if len(found.rows) != 1:
            return None
        kuid = str(found.rows[0]["kuid"])
        if await self.exists(kuid):
            return None
        tell(subject=kuid, notice=ENROLLED)
        data = self.data_of(self.credentials_of(profile))
        entered = self.inserted(profile.uid, kuid, data)
        return Authenticated(kuid, (Present(Table.USERS, {"kuid": kuid}), entered))


KIND = StrategyKind(OAuthSettings, OAuth, examine=examine, offers=backends)
