"""The cases of the Autobahn test suite, which is written for Python 2, as classes of Python 3.

The suite comes from its package index at a fixed version and is not kept here. Its byte strings are
read as texts of the same characters (Latin-1), so that its code means what it meant.
"""

import binascii
import builtins
import codecs
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import types
from collections.abc import Iterable
from pathlib import Path

VERSION = "25.10.1"
_PACKAGE = "autobahntestsuite"
# What would not be read, or mean something else: statements that print, divisions of whole numbers,
# and classes that are made with two roots.
_REWRITTEN = (
    (re.compile(r"^(\s*)print\b.*$", re.MULTILINE), r"\1pass"),
    (re.compile(r"(len\(self\.payload\)) / "), r"\1 // "),
    (re.compile(r"\(object, Case, \)"), "(Case,)"),
)


class SuiteMissing(Exception):
    """The suite can't be had here."""


class CloseCodes:
    """Constants the cases look up on their protocol and on the library's class."""

    STATE_CLOSED, STATE_OPEN, STATE_CLOSING = 0, 3, 2
    MESSAGE_TYPE_TEXT = 1
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_GOING_AWAY = 1001
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007


class Offer:
    """An offer of permessage-deflate as the cases write it."""

    def __init__(
        self, requestNoContextTakeover: bool = False, requestMaxWindowBits: int = 0
    ) -> None:
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits

    def __str__(self) -> str:
        parts = ["permessage-deflate", "client_max_window_bits"]
        if self.requestNoContextTakeover:
            parts.append("server_no_context_takeover")
        if self.requestMaxWindowBits:
            parts.append(f"server_max_window_bits={self.requestMaxWindowBits}")
        return "; ".join(parts)


def as_bytes(text: str | bytes) -> bytes:
    """Give the bytes a text of the suite stands for."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


def fetch(folder: Path) -> Path:
    """Download and unpack the suite into `folder` unless it is there; give its cases' folder."""
    cases = folder / f"{_PACKAGE}-{VERSION}" / _PACKAGE / "case"
    if not cases.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", _PACKAGE, "--dest", str(folder)]
        found = subprocess.run([*command, f"{_PACKAGE}=={VERSION}"], capture_output=True, text=True)
        archive = folder / f"{_PACKAGE}-{VERSION}.tar.gz"
        if not archive.exists():
            raise SuiteMissing(found.stderr.strip()[-300:])
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    return cases


def load_cases(folder: Path) -> list[type]:
    """Give the case classes of a folder, in the suite's order."""
    cases: list[type] = _Loader(folder).load("__init__").Cases
    return cases


def case_id(case: type) -> str:
    """Give a case's number, such as "9.3.1"."""
    return case.__name__.removeprefix("Case").replace("_", ".")


class _Loader:
    """Runs the suite's modules, which import each other by their bare names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, types.ModuleType] = _stand_ins(folder.parent)

    def load(self, name: str) -> types.ModuleType:
        """Give a module of the folder, run once."""
        if name not in self._loaded:
            source = (self._folder / f"{name}.py").read_text("latin-1")
            module = self._loaded[name] = types.ModuleType(name)
            module.__dict__["__builtins__"] = {
                **vars(builtins),
                "__import__": self._import,
                "open": _open,
                "xrange": range,
                "unichr": chr,
            }
            for found, instead in _REWRITTEN:
                source = found.sub(instead, source)
            exec(compile(source, f"{name}.py", "exec"), module.__dict__)  # noqa: S102
        return self._loaded[name]

    def _import(
        self,
        name: str,
        globals: object = None,
        locals: object = None,
        fromlist: Iterable[str] = (),
        level: int = 0,
    ) -> object:
        if name in self._loaded or (self._folder / f"{name}.py").exists():
            return self.load(name)
        return builtins.__import__(name, globals, locals, fromlist, level)  # type: ignore[arg-type]


def _stand_ins(package: Path) -> dict[str, types.ModuleType]:
    """Give what the cases import from elsewhere, as far as they use it."""
    return {
        "autobahn.websocket.protocol": _module(WebSocketProtocol=CloseCodes),
        "autobahn.websocket.utf8validator": _module(Utf8Validator=_Utf8),
        "autobahn.websocket.compress": _module(
            PerMessageDeflateOffer=Offer,
            PerMessageDeflateResponse=Offer,
            PerMessageDeflateOfferAccept=Offer,
            PerMessageDeflateResponseAccept=Offer,
        ),
        "binascii": _module(
            b2a_hex=lambda text: binascii.hexlify(as_bytes(text)).decode(),
            hexlify=lambda text: binascii.hexlify(as_bytes(text)).decode(),
        ),
        "hashlib": _module(sha1=_Sha1),
        "pkg_resources": _module(
            resource_filename=lambda _, name: str(package / name),
        ),
        "twisted.internet": _module(reactor=None, interfaces=_module(IPushProducer=None)),
        "zope.interface": _module(implements=lambda *_: None),
    }


def _module(**members: object) -> types.ModuleType:
    module = types.ModuleType("stand_in")
    module.__dict__.update(members)
    return module


def _open(name: str, mode: str) -> io.BytesIO:
    """Give a file that nobody has to close."""
    return io.BytesIO(Path(name).read_bytes())


class _Sha1:
    """`hashlib.sha1` for texts that stand for bytes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha1(usedforsecurity=False)

    def update(self, text: str | bytes) -> None:
        """Add what a text stands for."""
        self._hash.update(as_bytes(text))

    def digest(self) -> bytes:
        """Give the digest."""
        return self._hash.digest()


class _Utf8:
    """Tells the suite which of its own texts are UTF-8, and whole."""

    def reset(self) -> None:
        """Forget what came before."""

    def validate(self, text: str) -> tuple[bool, bool]:
        """Tell whether a text is sound so far, and whether it ends between characters."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(as_bytes(text))
        except UnicodeDecodeError:
            return False, False
        return True, not decoder.getstate()[0]
