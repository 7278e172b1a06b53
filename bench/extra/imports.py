"""`python -m bench.extra.imports`: users a second that `manykeys import` takes in, and again when
all of them are there.

The file is made first, with a hash for each user, and is imported by the program itself into a
database that has its built-in roles; no server runs beside it.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server.app.application import operating
from server.config.model import load
from server.storage.sqlite.storage import SqliteStorage

_SEED = 7
_BCRYPT = "$2b$12$abcdefghijklmnopqrstuv"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./"


def write_users(path: Path, users: int) -> None:
    """Write so many users, in no order, each with the credentials beside him."""
    dice = random.Random(_SEED)
    with path.open("w") as file:
        for number in range(users):
            kuid = f"kuid-{dice.getrandbits(64):016x}"
            hashed = _BCRYPT + "".join(dice.choices(_LETTERS, k=31))
            line = {
                "collection": "users",
                "_id": kuid,
                "_source": {"profileIds": ["default"], "name": f"user {number}"},
                "credentials": {"local": {"username": f"u{number}@example.org", "hash": hashed}},
            }
            file.write(json.dumps(line) + "\n")


async def prepare(data: Path) -> None:
    """Make a database with the built-in roles and profiles."""
    storage = SqliteStorage(str(data), clock_ms=lambda: 0)
    await storage.open()
    await storage.close()
    async with operating(load(None, {}, {"server.data": str(data)})):
        pass


def run_import(path: Path, data: Path) -> tuple[float, float, int]:
    """Import, and give how long it took in seconds, by the clock and of the processor, and its
    greatest memory in KiB."""
    command = [sys.executable, "-m", "server", "import", str(path), "--data", str(data)]
    began_s = time.perf_counter()
    with subprocess.Popen(command) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - began_s, used.ru_utime + used.ru_stime, used.ru_maxrss


def main() -> None:
    """Print the figures."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--users", type=int, default=1_000_000)
    users = flags.parse_args().users
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder, "users.jsonl"), Path(folder, "keys.db")
        write_users(path, users)
        asyncio.run(prepare(data))
        for what in ("new", "there already"):
            took_s, used_s, most_kib = run_import(path, data)
            print(f"{users} users, {what}: {took_s:.1f} s, {users / took_s:,.0f} users/s")
            print(f"  {users / used_s:,.0f} users/s of one processor alone")
            print(f"  greatest memory {most_kib / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
