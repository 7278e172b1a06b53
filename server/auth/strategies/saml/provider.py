"""The identity providers of one strategy: where to send somebody, and what a response says of who
comes back.

Everything here blocks, and is for the threads of the strategy. What goes wrong is `Declined`, whose
texts are safe to log: they never come from the provider or from who logs in.
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
_LEAST_RSA_BITS = 2048
_MOST_KEY_BYTES = 65_536
_NO_IDENTITY = {
    OneLogin_Saml2_Constants.NAMEID_EMAIL_ADDRESS: "the NameID is an e-mail address",
    OneLogin_Saml2_Constants.NAMEID_TRANSIENT: "the NameID is another one each time",
}


@dataclass(frozen=True, slots=True)
class Idp:
    """One identity provider; its certificates are read again once their files have changed."""

    settings: ProviderSettings
    files: tuple[Watched[tuple[x509.Certificate, ...]], ...]

    def certificates(self) -> list[x509.Certificate]:
        """Give those it signs with by now."""
        return [one for file in self.files for one in file.current()]


class SamlProviders:
    """What the settings of a strategy name. LocalError for settings that can't do."""

    id_name = "id"

    def __init__(self, settings: SamlSettings) -> None:
        self._settings = settings
        if not settings.entity_id:
            raise ConfigError("entityId: not set; expected what providers know this server by")
        if not settings.callback_url:
            raise ConfigError("callbackUrl: not set; expected where providers send responses")
        self._key, self._certificate = _read_pair(settings)
        self._opens_with = None
        if settings.encryption != _REFUSED:
            self._opens_with = _read_key(self._key)
        if not settings.providers:
            raise ConfigError("providers: none is set; expected a table for each that is believed")
        self.idps = {name: _read_idp(name, table) for name, table in settings.providers.items()}

    def close(self) -> None:
        """See `Source`: nobody was asked."""

    def begin(self, state: str, data: Mapping[str, str]) -> tuple[str, Session]:
        """See `Source`; `idp` names one of several. ApiError 400 for none of them."""
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
        """See `Source`: python3-saml verifies what `messages` finds nothing wrong with, the
        signature among it."""
        name = str(session.get(IDP))
        if name not in self.idps:
            raise Declined("a login with a provider that is no longer there")
        asking = self._backend(state, {}, session)
        is_required = self._settings.encryption == _REQUIRED
        opening = messages.Opening(self._opens_with, is_required, asking.is_signed)
        with _declining():
            message = messages.read(data.get(RESPONSE, ""), opening)
        given = {
            RESPONSE: message.text,
            "RelayState": state,
            Saml.BROWSER_RETURN_FIELD: "1",  # with his cookie already
        }
        backend = self._backend(state, given, session)
        expected = messages.Expected(
            self._settings.entity_id, self._settings.callback_url, backend.request_id()
        )
        messages.check(message, expected, datetime.now(UTC))
        with _declining():
            told = backend.complete()
            if not isinstance(told, Told):
                raise Declined("the provider tells nothing of who it is")
            return self._read(name, backend, told.response)

    def metadata(self) -> str:
        """Give the description of this side, in XML."""
        is_encrypted = self._settings.encryption != _REFUSED
        backend = self._backend("", {}, {}, shows_encryption=is_encrypted)
        metadata, faults = backend.generate_metadata_xml()  # type: ignore[no-untyped-call]
        if faults:
            raise LocalError(f"the metadata can't be made: {', '.join(map(str, faults))}")
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
        """Find out who it is in what was verified."""
        settings = self.idps[name].settings
        told: dict[str, object] = dict(response["attributes"])
        if settings.identifier_attribute:
            values = told.get(settings.identifier_attribute)
            value = values[0] if isinstance(values, list) and len(values) == 1 else None
        else:
            value = told["name_id"]
            self._check_name_id(settings, backend)
        uid = f"{name}:{value.strip()}" if isinstance(value, str) and value.strip() else None
        if uid is None or not is_id(uid):
            raise Declined("the provider tells no id that could be used")
        given = {**backend.friendly_attributes(), **told}
        simple = {key: _simple(one) for key, one in given.items()}
        details = backend.get_user_details(response)  # type: ignore[no-untyped-call]
        attributes = without_secrets({**details, **simple, IDP: name})
        return Profile(uid, cast("dict[str, object]", attributes))

    def _check_name_id(self, settings: ProviderSettings, backend: Saml) -> None:
        """Only what this provider itself has given to this user for good identifies him."""
        said = backend.what_it_is()
        if said["format"] in _NO_IDENTITY:
            raise Declined(_NO_IDENTITY[said["format"]])
        if said["by"] and said["by"] != settings.entity_id:
            raise Declined("the NameID is another provider's")


def _simple(values: object) -> object:
    """Give the only value of an attribute by itself."""
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
            f"{path}.identifierAttribute: {settings.identifier_attribute} is no identity: "
            "addresses change hands"
        )
    files = tuple(Watched(file, _read_signers) for file in settings.certificates)
    return Idp(settings, files)


def _read_signers(data: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM whose keys can be believed. ValueError for others."""
    found = read_certificates(data)
    for one in found:
        key = one.public_key()
        is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS
        if not is_rsa and not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError(f"expected keys of RSA with {_LEAST_RSA_BITS} bits or more, or of EC")
    return found


def _write(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _read_pair(settings: SamlSettings) -> tuple[str, str]:
    """Give the key and its certificate in PEM, "" for both where requests are not signed."""
    if not settings.key and not settings.certificate:
        return "", ""
    if not settings.key or not settings.certificate:
        raise ConfigError("key, certificate: expected both or neither")
    (certificate, *_) = Watched(settings.certificate, read_certificates).current()
    try:
        with Path(settings.key).open("rb") as file:
            pem = file.read(_MOST_KEY_BYTES)
        key = load_pem_private_key(pem, None)
    except OSError as fault:
        raise LocalError(f"{settings.key}: {fault.strerror or 'not to be read'}") from None
    except (ValueError, TypeError):
        raise LocalError(f"{settings.key}: no key in PEM without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise LocalError(f"{settings.key}: expected a key of RSA")
    if key.public_key() != certificate.public_key():
        raise LocalError(f"{settings.key}: not the key of {settings.certificate}")
    return pem.decode(), _write(certificate)


def _read_key(pem: str) -> rsa.RSAPrivateKey:
    """Give the key that was read as `_read_pair` reads it."""
    key = load_pem_private_key(pem.encode(), None) if pem else None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError("encryption: expected key and certificate, which assertions are for")
    return key


@contextmanager
def _declining() -> Iterator[None]:
    """Turn whatever the packages raise into `Declined`; their texts may hold what was sent."""
    try:
        yield
    except Declined:
        raise
    except SocialAuthBaseException as fault:
        raise Declined(f"{fault.code} at {fault.stage}") from None
    except Exception as fault:
        raise Declined(f"an answer that can't be read: {type(fault).__name__}") from None
