"""`manykeys role` and `manykeys profile`: on the store alone, and beside a running server."""

import json
from pathlib import Path

import pytest

from server.cli import main as cli
from tests.server.app.test_serve import create_admin, login, open_socket, serving
from tests.support.commands import CHEAP, Desk, manykeys, profile, role, write_lines
from tests.support.server import PASSWORD

READER = role("reader", {"security": {"getUser": True, "deleteUser": False}})


def documents(desk: Desk, what: str, *arguments: str) -> dict[str, dict[str, object]]:
    """Give what a command prints in JSON, by id and without who made it."""
    found = {}
    for line in desk.do(what, *arguments).splitlines():
        document = json.loads(line)
        del document["_source"]["_kuzzle_info"]
        found[document["_id"]] = document
    return found


def test_lists(desk: Desk, tmp_path: Path) -> None:
    desk.do("role", "import", str(write_lines(tmp_path / "r.jsonl", [READER])))
    heading, *rows = desk.do("role", "list").splitlines()
    assert heading.split() == ["ROLE", "CONTROLLERS"]
    assert [row.split()[0] for row in rows] == ["admin", "anonymous", "default", "reader"]
    assert rows[0].split() == ["admin", "*"] and rows[3].split() == ["reader", "security"]
    heading, *rows = desk.do("profile", "list").splitlines()
    assert heading.split() == ["PROFILE", "ROLES"]
    assert [row.split() for row in rows] == [
        [name, name] for name in ("admin", "anonymous", "default")
    ]
    assert documents(desk, "role", "list", "--json")["reader"] == READER


def test_show(desk: Desk, tmp_path: Path) -> None:
    policies = [
        {"roleId": "reader"},
        {"roleId": "default", "restrictedTo": [{"index": "a", "collections": ["b", "c"]}]},
    ]
    source = {"policies": policies, "rateLimit": 7}
    lines = [READER, {"collection": "profiles", "_id": "p", "_source": source}]
    desk.do("import", str(write_lines(tmp_path / "r.jsonl", lines)))
    assert [row.split() for row in desk.do("role", "show", "reader").splitlines()] == [
        ["CONTROLLER", "ACTION", "VALUE"],
        ["security", "deleteUser", "denied"],
        ["security", "getUser", "allowed"],
    ]
    *rows, last = desk.do("profile", "show", "p").splitlines()
    assert [row.split() for row in rows] == [
        ["ROLE", "INDEX", "COLLECTIONS"],
        ["reader", "*", "*"],
        ["default", "a", "b,", "c"],
    ]
    assert last == "rate limit: 7"
    shown = json.loads(desk.do("profile", "show", "p", "--json"))
    assert shown["_id"] == "p" and shown["_source"]["policies"] == policies


def test_what_is_exported_can_be_imported(desk: Desk, tmp_path: Path) -> None:
    """An export holds everything; imported again it changes nothing, edited it changes that."""
    desk.do("role", "import", str(write_lines(tmp_path / "r.jsonl", [READER])))
    exported = tmp_path / "all.jsonl"
    desk.do("role", "export", "--output", str(exported))
    assert exported.stat().st_mode & 0o777 == 0o600
    desk.refuse("role", "export", "admin", "nobody", "--output", str(exported))
    assert documents(desk, "role", "export", "reader") == {"reader": READER}
    counts = json.loads(desk.do("role", "import", str(exported), "--update", "--json"))["roles"]
    assert counts["unchanged"] == 4 and sum(counts.values()) == 4
    edited = [json.loads(line) for line in exported.read_text().splitlines()]
    edited[3]["_source"]["controllers"]["security"]["actions"]["deleteUser"] = True
    write_lines(exported, edited)
    out = desk.do("role", "import", str(exported))
    assert "--update" in out
    assert documents(desk, "role", "export", "reader") == {"reader": READER}
    desk.do("role", "import", str(exported), "--update")
    assert "denied" not in desk.do("role", "show", "reader")


def test_each_takes_its_own(desk: Desk, tmp_path: Path) -> None:
    """A file with everything in it gives `role import` roles alone."""
    lines = [profile("p", "reader"), READER, {"collection": "config", "_id": "x", "_source": {}}]
    file = str(write_lines(tmp_path / "all.jsonl", lines))
    assert "2 documents of other collections" in desk.do("role", "import", file)
    assert "p" not in documents(desk, "profile", "list", "--json")
    desk.do("profile", "import", file)
    assert documents(desk, "profile", "export", "p")["p"]["_source"]["policies"] == [
        {"roleId": "reader"}
    ]


MISTAKES = [
    ("role", role("r", {"nowhere": {"a": True}}), "nowhere"),
    ("role", role("r", {"auth": {"lgoin": True}}), "lgoin"),
    ("role", {"collection": "roles", "_id": "r", "_source": {}}, "r.controllers"),
    ("role", role("anonymous", {"auth": {"login": False}}), "anonymous"),
    ("profile", profile("p", "nobodys"), "nobodys"),
    ("profile", profile("anonymous", "default"), "anonymous"),
]


@pytest.mark.parametrize(("what", "line", "named"), MISTAKES)
def test_files_are_checked_like_requests(
    desk: Desk, tmp_path: Path, what: str, line: object, named: str
) -> None:
    """docs/api/security.md#roles, #profiles: what the API refuses, a file does not bring in."""
    file = str(write_lines(tmp_path / "f.jsonl", [READER, line]))
    before = desk.do(what, "list", "--json")
    code, out, err = desk.run(what, "import", file, "--update")
    first, last = err.splitlines()
    assert code == 2 and first.startswith("line 2: ") and named in first
    assert "rejected documents in the file: 1" in last
    if what == "profile":
        assert desk.do(what, "list", "--json") == before


def test_force_lets_a_role_name_other_controllers(desk: Desk, tmp_path: Path) -> None:
    """docs/api/security.md#roles: a plugin's controllers, which only the reference knows."""
    line = role("r", {"my-plugin/cars": {"drive": True}})
    desk.do("role", "import", str(write_lines(tmp_path / "f.jsonl", [line])), "--force")
    assert documents(desk, "role", "export", "r") == {"r": line}


@pytest.mark.parametrize("what", ["role", "profile"])
def test_unknown_ids(desk: Desk, what: str) -> None:
    for task in ("show", "export"):
        assert "nobodys" in desk.refuse(what, task, "nobodys")


@pytest.mark.parametrize("what", ["role", "profile"])
def test_help_is_complete(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([what, "import", "--help"])
    shown = capsys.readouterr().out
    for flag in ("--update", "--force", "--errors", "--json", "--data"):
        assert flag in shown


async def test_an_imported_role_is_in_force_at_once(tmp_path: Path) -> None:
    """When `role import` returns, the next request has the new rights, over both transports."""
    data = tmp_path / "keys.db"

    async def command(*arguments: str) -> None:
        code, printed = await manykeys(*arguments, "--data", str(data), *CHEAP)
        assert code == 0, printed

    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        lines = [role("r", {"auth": {"getCurrentUser": True}}), profile("p", "r")]
        await command("import", str(write_lines(tmp_path / "a.jsonl", lines)))
        code, printed = await manykeys(
            *("user", "create", "ann", "--profile", "p", "--password-stdin"),
            *("--data", str(data), *CHEAP),
            stdin=PASSWORD,
        )
        assert code == 0, printed
        token = await login(http, "ann")
        socket = await open_socket(server)
        message = {"controller": "security", "action": "getUser", "_id": "ann", "jwt": token}

        async def statuses() -> list[object]:
            answer = await http.ask("GET", "/users/ann", token=token)
            return [answer.status, (await socket.ask(message))["status"]]

        for right, expected in ((False, 403), (True, 200), (False, 403)):
            rights = {"auth": {"getCurrentUser": True}, "security": {"getUser": right}}
            file = write_lines(tmp_path / "b.jsonl", [role("r", rights)])
            await command("role", "import", str(file), "--update")
            assert await statuses() == [expected, expected]
        socket.http.close()
        http.close()
        await server.stop()
