"""SAML identity providers of one strategy: where to redirect, and the profile in a verified
response.

All methods block, and are called in threads of the strategy. Errors are `Declined`, whose texts are
safe to log: they never come from the provider or the client.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from onelogin.saml2.constants import OneLogin_Saml2_Constants  # type: ignore[import-untyped]
from social_core.exceptions import SocialAuthBaseException

from protocol.errors import LocalError, error
from server.auth.strategies.attributes import without_secrets
from server.auth.strategies.federated import Declined, Profile
from server.auth.strategies.oauth.social_adapter import Away, Session, Told, Visit
from server.auth.strategies.oauth.social_backend import clean_url
from server.auth.strategies.saml import response as messages
from server.auth.strategies.saml.decryption import with_methods
from server.auth.strategies.saml.settings import SLUG, ProviderSettings, SamlSettings, is_address
from server.auth.strategies.saml.social_backend import IDP, Saml
from server.auth.strategies.x509.trust_store import Watched, read_certificates
from server.core.config_file import ConfigError, fill
from server.core.ids import is_id

RESPONSE = "SAMLResponse"
_REFUSED, _REQUIRED = "refused", "required"
_MIN_RSA_BITS = 2048
_MAX_KEY_BYTES = 65_536
_NO_IDENTITY = {
    OneLogin_Saml2_Constants.NAMEID_EMAIL_ADDRESS: "the NameID is an email address",
    OneLogin_Saml2_Constants.NAMEID_TRANSIENT: "the NameID is transient",
}


@dataclass(frozen=True, slots=True)
class Idp:
    """One identity provider; its certificates are reloaded when their files change."""

    settings: ProviderSettings
    files: tuple[Watched[tuple[x509.Certificate, ...]], ...]

    def certificates(self) -> list[x509.Certificate]:
        """Return its current signing certificates."""
        return [one for file in self.files for one in file.current()]


class SamlProviders:
    """The providers that a strategy's settings name. LocalError for settings that cannot work."""

    id_name = "id"

    def __init__(self, settings: SamlSettings) -> None:
        self._settings = settings
        if not settings.entity_id:
            raise ConfigError("entityId: not set; expected the entity id of this server")
        if not settings.callback_url:
            raise ConfigError("callbackUrl: not set; expected the assertion consumer service URL")
        self._key, self._certificate = _read_pair(settings)
        self._decryption_key = None
        if settings.encryption != _REFUSED:
            self._decryption_key = _read_key(self._key)
        if not settings.providers:
            raise ConfigError("providers: not set; expected a table for each trusted provider")
        self.idps = {name: _read_idp(name, table) for name, table in settings.providers.items()}

    def close(self) -> None:
        """See `Source`; there are no connections."""

    def begin(self, state: str, data: Mapping[str, str]) -> tuple[str, Session]:
        """See `Source`; `idp` selects one of several providers. ApiError 400 if it is missing or
        unknown."""
        name = data.get(IDP) or (next(iter(self.idps)) if len(self.idps) == 1 else "")
        if not name:
            raise error("api.assert.missing_argument", IDP)
        if name not in self.idps:
            raise error("api.assert.invalid_argument", IDP, ", ".join(self.idps))
        session: Session = {IDP: name}
        with _declining():
            answer = self._backend(state, {}, session).start()
        return clean_url(cast(Away, answer).url), session

    def complete(self, state: str, data: Mapping[str, str], session: Session) -> Profile:
        """See `Source`. python3-saml verifies the message and its signature after the checks of
        `response`."""
        name = str(session.get(IDP))
        if name not in self.idps:
            raise Declined("the provider of this login is no longer configured")
        asking = self._backend(state, {}, session)
        is_required = self._settings.encryption == _REQUIRED
        opening = messages.Opening(self._decryption_key, is_required, asking.is_signed)
        with _declining():
            message = messages.read(data.get(RESPONSE, ""), opening)
        given = {
            RESPONSE: message.text,
            "RelayState": state,
            Saml.BROWSER_RETURN_FIELD: "1",  # the session cookie was checked already
        }
        backend = self._backend(state, given, session)
        expected = messages.Expected(
            self._settings.entity_id, self._settings.callback_url, backend.request_id()
        )
        messages.check(message, expected, datetime.now(UTC))
        with _declining():
            answer = backend.complete()
            if not isinstance(answer, Told):
                raise Declined("the provider's response does not identify a user")
            return self._read(name, backend, answer.response)

    def metadata(self) -> str:
        """Return the metadata of this service provider, in XML."""
        is_encrypted = self._settings.encryption != _REFUSED
        backend = self._backend("", {}, {}, shows_encryption=is_encrypted)
        metadata, faults = backend.generate_metadata_xml()  # type: ignore[no-untyped-call]
        if faults:
            raise LocalError(f"the metadata is not valid: {', '.join(map(str, faults))}")
        text = metadata.decode() if isinstance(metadata, bytes) else str(metadata)
        return with_methods(text) if is_encrypted else text

    def _backend(
        self,
        state: str,
        data: Mapping[str, str],
        session: Session,
        *,
        shows_encryption: bool = False,
    ) -> Saml:
        idps = {
            name: {
                "entity_id": idp.settings.entity_id,
                "url": idp.settings.url,
                "x509certMulti": {"signing": list(map(_write, idp.certificates()))},
            }
            for name, idp in self.idps.items()
        }
        values = {
            "SP_ENTITY_ID": self._settings.entity_id,
            "SP_PUBLIC_CERT": self._certificate,
            "SP_PRIVATE_KEY": self._key,
            "SHOWS_ENCRYPTION": shows_encryption,
            "NAME_ID_FORMAT": self._settings.name_id_format,
            "ENABLED_IDPS": idps,
        }
        home = self._settings.callback_url
        return Saml(Visit(values, home, state, data, session), home)

    def _read(self, name: str, backend: Saml, response: Mapping[str, Any]) -> Profile:
        """Return the profile in a verified response."""
        settings = self.idps[name].settings
        claims: dict[str, object] = dict(response["attributes"])
        if settings.identifier_attribute:
            values = claims.get(settings.identifier_attribute)
            value = values[0] if isinstance(values, list) and len(values) == 1 else None
        else:
            value = claims["name_id"]
            self._check_name_id(settings, backend)
        uid = f"{name}:{value.strip()}" if isinstance(value, str) and value.strip() else None
        if uid is None or not is_id(uid):
            raise Declined("the provider's response has no valid user id")
        given = {**backend.friendly_attributes(), **claims}
        simple = {key: _simple(one) for key, one in given.items()}
        details = backend.get_user_details(response)  # type: ignore[no-untyped-call]
        attributes = without_secrets({**details, **simple, IDP: name})
        return Profile(uid, cast("dict[str, object]", attributes))

    def _check_name_id(self, settings: ProviderSettings, backend: Saml) -> None:
        """Check that a NameID is a stable identifier which this provider itself has assigned."""
        said = backend.what_it_is()
        if said["format"] in _NO_IDENTITY:
            raise Declined(_NO_IDENTITY[said["format"]])
        if said["by"] and said["by"] != settings.entity_id:
            raise Declined("the NameID belongs to another provider")


def _simple(values: object) -> object:
    """Return the value of an attribute that has only one."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _read_idp(name: str, table: Mapping[str, object]) -> Idp:
    path = f"providers.{name}"
    if not SLUG.fullmatch(name):
        raise ConfigError(f"{path}: expected a name of 1 to 64 letters, digits, _ and -")
    settings, _ = fill(ProviderSettings, dict(table), (), path=f"{path}.")
    for key, value in (
        ("entityId", settings.entity_id),
        ("url", settings.url),
        ("certificates", settings.certificates),
    ):
        if not value:
            raise ConfigError(f"{path}.{key}: not set")
    if is_address(settings.identifier_attribute):
        raise ConfigError(
            f"{path}.identifierAttribute: {settings.identifier_attribute} must not be an email "
            "address: it can be reassigned"
        )
    files = tuple(Watched(file, _read_signers) for file in settings.certificates)
    return Idp(settings, files)


def _read_signers(data: bytes) -> tuple[x509.Certificate, ...]:
    """Parse PEM certificates with trustworthy keys. ValueError for others."""
    found = read_certificates(data)
    for one in found:
        key = one.public_key()
        is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
        if not is_rsa and not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError(f"expected RSA keys of at least {_MIN_RSA_BITS} bits, or EC keys")
    return found


def _write(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _read_pair(settings: SamlSettings) -> tuple[str, str]:
    """Return the key and its certificate in PEM, "" for both if requests are not signed."""
    if not settings.key and not settings.certificate:
        return "", ""
    if not settings.key or not settings.certificate:
        raise ConfigError("key, certificate: expected both or neither")
    (certificate, *_) = Watched(settings.certificate, read_certificates).current()
    try:
        with Path(settings.key).open("rb") as file:
            pem = file.read(_MAX_KEY_BYTES)
        key = load_pem_private_key(pem, None)
    except OSError as fault:
        raise LocalError(f"{settings.key}: {fault.strerror or 'cannot be read'}") from None
    except (ValueError, TypeError):
        raise LocalError(f"{settings.key}: expected a PEM key without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise LocalError(f"{settings.key}: expected an RSA key")
    if key.public_key() != certificate.public_key():
        raise LocalError(f"{settings.key}: does not match {settings.certificate}")
    return pem.decode(), _write(certificate)


def _read_key(pem: str) -> rsa.RSAPrivateKey:
    """Return the key that `_read_pair` has read."""
    key = load_pem_private_key(pem.encode(), None) if pem else None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError("encryption: requires key and certificate")
    return key


@contextmanager
def _declining() -> Iterator[None]:
    """Convert any exception of the packages into `Declined`; their texts may contain what was
    sent."""
    try:
        yield
    except Declined:
        raise
    except SocialAuthBaseException as fault:
        raise Declined(f"{fault.code} at {fault.stage}") from None
    except Exception as fault:
        raise Declined(f"unreadable response: {type(fault).__name__}") from None
