"""The page at the end of a login that a browser shows in a window of its own (docs/strategies.md).

A script could read the answer of the API, but no person can use it: where a page is asked for, the
same answer is handed to the window that opened this one, if its origin is trusted with it.
"""

import secrets
from collections.abc import Sequence
from html import escape

import orjson

from protocol.api.envelope import write_envelope
from protocol.api.request import Origin, Request, Response
from server.api.context import Services
from server.api.login_steps import strategy_of

MESSAGE = "manykeys:login"
"""What the type of the message is, by which a page knows it."""
_DONE, _FAILED = "You are logged in.", "The login was not completed."
_GOES_ON = "One more step, and you are logged in."
_FURTHER = "You can close this window and go back to where you came from."
_STYLE = "body{font:1.1em/1.5 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em}"
# The address still has what the provider sent; it is good no more, but nobody's business either.
_SCRIPT = """\
history.replaceState(null, "", location.pathname);
const {origins, message} = JSON.parse(document.getElementById("told").textContent);
if (window.opener && origins.length) {
  for (const origin of origins) window.opener.postMessage(message, origin);
  window.close();
}
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style nonce="{nonce}">{style}</style></head>
<body><h1>{title}</h1><p>{text}</p>
<script type="application/json" id="told">{told}</script>
<script nonce="{nonce}">{script}</script>
</body>
</html>
"""


def show_page(services: Services, request: Request, response: Response) -> None:
    """Make an answer a page, where it ends a login and a browser wants to show something."""
    origins = _origins_for(services, request)
    if origins is None or "location" in response.headers:
        return
    told: dict[str, object] = {"origins": list(origins), "message": None}
    if origins:  # or what is told stays out of the page altogether
        envelope = orjson.loads(write_envelope(request, response, services.node))
        strategy = request.args.get("strategy")
        told["message"] = {"type": MESSAGE, "strategy": strategy, "answer": envelope}
    nonce = secrets.token_urlsafe(16)
    text = "" if response.error is None else f"{escape(response.error.message)}. "
    response.result = _PAGE.format(
        title=_title_of(response),
        text=text + _FURTHER,
        nonce=nonce,
        style=_STYLE,
        script=_SCRIPT,
        told=_as_script(told),
    )
    response.error, response.is_raw, response.is_private = None, True, True
    response.headers |= {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }


def _origins_for(services: Services, request: Request) -> Sequence[str] | None:
    """Give whose windows may have the answer; None where no page is wanted."""
    if (request.controller, request.action) != ("auth", "login") or "state" not in request.args:
        return None
    is_shown = request.origin is Origin.HTTP and request.head.method == "GET"
    if not is_shown or "text/html" not in request.headers.get("accept", "").lower():
        return None
    origins: Sequence[str] | None = getattr(strategy_of(services, request), "window_origins", None)
    return origins


def _title_of(response: Response) -> str:
    if response.error is not None:
        return _FAILED
    is_pending = isinstance(response.result, dict) and "challenge" in response.result
    return _GOES_ON if is_pending else _DONE


def _as_script(value: object) -> str:
    """Write JSON that can't end the element it stands in."""
    return orjson.dumps(value).decode().replace("<", "\\u003c").replace("&", "\\u0026")
