"""HTML page that shows the result of a login in a browser window (docs/strategies.md).

A script can read the API's JSON response, a person cannot. If the browser asks for HTML, it gets a
page that hands the same response to the window that opened it, if the origin of that window is
trusted.
"""

import secrets
from collections.abc import Sequence
from html import escape

import orjson

from protocol.api.envelope import format_envelope
from protocol.api.request import Origin, Request, Response
from server.api.context import AppContext
from server.api.login_steps import strategy_of

MESSAGE = "manykeys:login"
"""Type of the message that is posted to the opener, by which its page recognizes it."""
_DONE, _FAILED = "You are logged in.", "The login was not completed."
_PENDING = "One more step is required."
_CLOSE_WINDOW = "You can close this window and return to the app."
_STYLE = "body{font:1.1em/1.5 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em}"
# The URL still contains what the provider sent. It is used up, but should not stay in the history.
_SCRIPT = """\
history.replaceState(null, "", location.pathname);
const {origins, message} = JSON.parse(document.getElementById("result").textContent);
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
<script type="application/json" id="result">{result}</script>
<script nonce="{nonce}">{script}</script>
</body>
</html>
"""


def show_page(services: AppContext, request: Request, response: Response) -> None:
    """Replace the response by an HTML page, if it ends a login and a browser wants HTML."""
    origins = _origins_for(services, request)
    if origins is None or "location" in response.headers:
        return
    result: dict[str, object] = {"origins": list(origins), "message": None}
    if origins:  # without a trusted origin the page contains no result at all
        envelope = orjson.loads(format_envelope(request, response, services.node))
        strategy = request.args.get("strategy")
        result["message"] = {"type": MESSAGE, "strategy": strategy, "answer": envelope}
    nonce = secrets.token_urlsafe(16)
    text = "" if response.error is None else escape(_sentence_of(response.error.message)) + " "
    response.result = _PAGE.format(
        title=_title_of(response),
        text=text + _CLOSE_WINDOW,
        nonce=nonce,
        style=_STYLE,
        script=_SCRIPT,
        result=_as_script(result),
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


def _origins_for(services: AppContext, request: Request) -> Sequence[str] | None:
    """Return the origins whose windows may receive the response; None where no page is wanted."""
    if (request.controller, request.action) != ("auth", "login") or "state" not in request.args:
        return None
    is_shown = request.origin is Origin.HTTP and request.head.method == "GET"
    if not is_shown or "text/html" not in request.headers.get("accept", "").lower():
        return None
    origins: Sequence[str] | None = getattr(strategy_of(services, request), "window_origins", None)
    return origins


def _sentence_of(message: str) -> str:
    """Return an error message as a sentence: capitalized, with one period at the end."""
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."


def _title_of(response: Response) -> str:
    if response.error is not None:
        return _FAILED
    is_pending = isinstance(response.result, dict) and "challenge" in response.result
    return _PENDING if is_pending else _DONE


def _as_script(value: object) -> str:
    """Serialize to JSON that cannot close the script element it is written into."""
    return orjson.dumps(value).decode().replace("<", "\\u003c").replace("&", "\\u0026")
