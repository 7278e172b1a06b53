"""social-auth-core's SAML backend adapted to this server: its state, one request per login, strict
checks."""

from typing import Any, cast

from onelogin.saml2.auth import OneLogin_Saml2_Auth  # type: ignore[import-untyped]
from onelogin.saml2.constants import OneLogin_Saml2_Constants  # type: ignore[import-untyped]
from onelogin.saml2.errors import (  # type: ignore[import-untyped]
    OneLogin_Saml2_ValidationError,
)
from onelogin.saml2.response import OneLogin_Saml2_Response  # type: ignore[import-untyped]
from onelogin.saml2.utils import OneLogin_Saml2_Utils  # type: ignore[import-untyped]
from social_core.backends.saml import SAMLAuth, SAMLIdentityProvider

from server.auth.strategies.federated import Declined
from server.auth.strategies.oauth.social_adapter import Answer, Visit

IDP = "idp"
"""Name under which the session stores which provider was selected."""
_REASONS = {
    code: name.lower().replace("_", " ")
    for name, code in vars(OneLogin_Saml2_ValidationError).items()
    if isinstance(code, int)
}
_FORMATS = {
    "persistent": OneLogin_Saml2_Constants.NAMEID_PERSISTENT,
    "unspecified": OneLogin_Saml2_Constants.NAMEID_UNSPECIFIED,
}


class StrictResponse(OneLogin_Saml2_Response):  # type: ignore[misc]
    """A response whose validation errors have fixed texts."""

    def is_valid(
        self, request_data: object, request_id: str | None = None, raise_exceptions: bool = False
    ) -> bool:
        """Verify it; Declined if it is not valid."""
        try:
            super().is_valid(request_data, request_id, raise_exceptions=True)
            self.get_attributes()
            self.get_nameid_data()
        except OneLogin_Saml2_ValidationError as fault:
            raise Declined(_REASONS.get(fault.code, "not valid")) from None
        return True


class StrictAuth(OneLogin_Saml2_Auth):  # type: ignore[misc]
    """One exchange with a provider."""

    response_class = StrictResponse

    def what_it_is(self) -> dict[str, str]:
        """Return the format of the NameID, and its qualifier, the provider that assigned it; "" if
        not given."""
        return {"format": self.get_nameid_format() or "", "by": self.get_nameid_nq() or ""}


class Saml(SAMLAuth[Answer]):
    """The backend. Its strategy is a `Visit` whose session contains the selected provider."""

    def auth_url(self) -> str:
        """Return the URL to redirect to; the state is sent as the RelayState, which is limited to
        80 bytes."""
        visit = cast(Visit, self.strategy)
        idp = self.get_idp(visit.session[IDP])
        self._auth = self._create_saml_auth(idp)
        url: str = self._auth.login(return_to=visit.state)
        key = self._authn_request_id_session_key(idp.name)
        self.strategy.session_set(key, self._auth.get_last_request_id())
        return url

    def request_id(self) -> str:
        """Return the id of the request that was sent."""
        visit = cast(Visit, self.strategy)
        return str(visit.session_get(self._authn_request_id_session_key(visit.session[IDP]), ""))

    def parse_relay_state(self, relay_state_str: str) -> dict[str, object]:
        """Return the selected provider, whatever the response says."""
        return {IDP: cast(Visit, self.strategy).session[IDP]}

    def generate_saml_config(self, idp: SAMLIdentityProvider | None = None) -> dict[str, Any]:
        """Return the configuration of python3-saml."""
        config: dict[str, Any] = super().generate_saml_config(idp)
        config["debug"] = False  # it would print responses
        config["contactPerson"], config["organization"] = {}, {}
        config["sp"]["NameIDFormat"] = _FORMATS[str(self.setting("NAME_ID_FORMAT"))]
        config["security"] |= {
            "allowSingleLabelDomains": True,
            "authnRequestsSigned": bool(self.setting("SP_PRIVATE_KEY")),
            "rejectDeprecatedAlgorithm": True,
            "requestedAuthnContext": False,
            "signatureAlgorithm": OneLogin_Saml2_Constants.RSA_SHA256,
            "digestAlgorithm": OneLogin_Saml2_Constants.SHA256,
            "wantAssertionsSigned": True,
            "wantAssertionsEncrypted": bool(self.setting("SHOWS_ENCRYPTION")),
            "wantAttributeStatement": False,
            "wantNameId": False,
        }
        return config

    def is_signed(self, body: bytes) -> bool:
        """Return whether a response as a whole is signed by the selected provider."""
        idp = self.get_idp(cast(Visit, self.strategy).session[IDP])
        settings = self._create_saml_auth(idp).get_settings()
        known = settings.get_idp_data()
        several = known.get("x509certMulti", {}).get("signing")
        return (
            OneLogin_Saml2_Utils.validate_sign(
                body,
                settings.get_idp_cert(),
                xpath=OneLogin_Saml2_Utils.RESPONSE_SIGNATURE_XPATH,
                multicerts=several,
                raise_exceptions=False,
            )
            is True
        )

    def what_it_is(self) -> dict[str, str]:
        """Return the format and qualifier of the NameID of the last response."""
        return self._auth.what_it_is()

    def friendly_attributes(self) -> dict[str, object]:
        """Return the attributes of the last response by their friendly names."""
        found: dict[str, object] = self._auth.get_friendlyname_attributes()
        return found

    def _create_saml_auth(self, idp: SAMLIdentityProvider) -> StrictAuth:
        config = self.generate_saml_config(idp)
        self._auth = StrictAuth(self._saml_request_data(), config)
        return self._auth
