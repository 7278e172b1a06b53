"""Our server made ready to be measured: its first administrator, his token, and his answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.loads.http_client import WrongAnswer, ask, ask_websocket, frame_payload, open_websocket
from bench.subject.checks import check_result
from bench.subject.sample import REQUEST_ID, Sample, me_message
from bench.subject.servers import Running, our_server
from bench.subject.stage import Stage

OURS = "manykeys"
KUID = "bench"
NAME = "Bench"
LOGIN_PATH = "/_login/local"
CREDENTIALS = {"username": "bench", "password": "a long enough Passphrase, 1 of a kind"}


@dataclass(frozen=True, slots=True)
class Subject:
    """Our server, running, and the answers it gave before anything was measured."""

    running: Running
    sample: Sample


@contextmanager
def ready_subject(stage: Stage, chapter: str, *, on_all_cores: bool = False) -> Iterator[Subject]:
    """Run our server on a new database with one administrator who is logged in."""
    cores = stage.cores.all if on_all_cores else stage.cores.server
    with our_server(stage, stage.folder / f"{chapter}.db", cores) as running:
        create_admin(running.port)
        yield Subject(running, take_sample(running.port, log_in(running.port)))


def create_admin(port: int) -> None:
    """Create the first administrator, as anybody on the machine may while there is none."""
    body = {"content": {"name": NAME}, "credentials": {"local": CREDENTIALS}}
    created = ask(port, "POST", f"/_createFirstAdmin/{KUID}", body=body).result()
    if created.get("_id") != KUID:
        raise WrongAnswer(f"another first administrator: {created}")


def log_in(port: int) -> str:
    """Give a new token of the administrator."""
    result = ask(port, "POST", LOGIN_PATH, body=CREDENTIALS).result()
    token = result.get("jwt")
    if result.get("_id") != KUID or not isinstance(token, str):
        raise WrongAnswer(f"not a login: {sorted(result)}")
    return token


def take_sample(port: int, token: str) -> Sample:
    """Ask over both protocols, check the answers against what is documented, and keep them."""
    over_http = ask(port, "GET", "/_me", token=token)
    result = over_http.result()
    check_result(result, KUID, NAME)
    with open_websocket(port) as connection:
        frame = ask_websocket(connection, me_message(token, REQUEST_ID))
    node = over_http.json.get("node")
    if not isinstance(node, str):
        raise WrongAnswer(f"no node's name: {over_http.json}")
    return Sample(token, node, result, over_http.raw, frame_payload(frame))
