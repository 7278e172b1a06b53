"""The JavaScript SDK, unmodified, goes through logins of several steps
(docs/api/strategies.md#multi-step-logins)."""

import os
from pathlib import Path

import pytest

from tests.interop.conftest import RunScript
from tests.interop.mocked import mocking
from tests.interop.serving import PASSWORD, serving
from tests.support.sample_package import install_sample

pytestmark = pytest.mark.interop
REFUSED = {"id": "plugin.strategy.missing_user", "status": 401}


def test_two_steps(tmp_path: Path, run_script: RunScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a strategy that an installed package brings: over a socket `query` gives the page to go
    to, which `auth.login` can not; what comes back from there finishes the login, on this socket
    alone and once."""
    install_sample(tmp_path)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), known))))
    with serving(tmp_path, {"strategies.away.use": "detour"}) as server:
        server.create_admin()
        seen = run_script("two_steps.cjs", server.port, "admin", PASSWORD)
    assert seen == {
        "strategies": ["local", "away"],
        "away": "TypeError",  # of the SDK, for want of a token
        "status": 302,
        "statusCode": 302,
        "site": "https://id.test/authorize",
        "foreign": REFUSED,
        "isToken": True,
        "user": "admin",
        "replayed": REFUSED,
    }


def test_another_site_and_a_second_factor(tmp_path: Path, run_script: RunScript) -> None:
    """A11: both are linked by the SDK; then the site alone gives no token, and the code does, on
    this socket alone and once."""
    with mocking() as provider:
        site = {
            "use": "oauth",
            "backend": "oidc",
            "key": "manykeys",
            "secret": "the secret",
            "callbackUrl": "https://login.test/_login/site",
            "persist": "email",
            "settings.OIDC_ENDPOINT": provider,
        }
        settings = {f"strategies.site.{name}": value for name, value in site.items()}
        with serving(tmp_path, settings | {"strategies.totp.use": "totp"}) as server:
            server.create_admin()
            seen = run_script("second_factor.cjs", server.port, "admin", PASSWORD)
    code = {"next": "code", "digits": 6}
    asked = {"next": "secondFactor", "factors": ["totp"], "challenges": {"totp": code}}
    assert seen == {
        "thrown": "TypeError",  # of the SDK, for want of a token
        "away": [302, 302],
        "linked": {"sub": "ann", "email": "ann", "kuid": "admin"},
        "recoveryCodes": 10,
        "first": {"status": 200, "hasToken": False, "challenge": asked},
        "anonymous": "-1",
        "foreign": REFUSED,
        "wrong": REFUSED,
        "isToken": True,
        "user": "admin",
        "replayed": REFUSED,
    }
