"""Real directories on this machine: OpenLDAP's slapd, and Samba as an Active Directory.

Both are started with a configuration and data of their own, and know nothing of the machine's.
"""

import importlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tests.interop.programs import do_without
from tests.support.certificates import Authority, Files
from tests.support.ports import free_port

WAIT_S = 30.0
SECRET = "Secret-Word-1"
BASE = "dc=example,dc=test"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
SERVICE = f"cn=service,{BASE}"
ROOT, ROOT_PASSWORD = f"cn=root,{BASE}", "root-secret"
ODD = 'o\'brien, "x" (sales)*+<a>;=#\\'
"""A user name full of what filters and names have a use for."""
_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"

_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile {folder}/pid
TLSCACertificateFile {ca}
TLSCertificateFile {files.cert}
TLSCertificateKeyFile {files.key}
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
database mdb
directory {folder}/db
suffix {base}
rootdn {root}
rootpw {password}
overlay memberof
overlay ppolicy
ppolicy_default cn=policy,{base}
index objectClass,entryUUID,uid eq
"""
_AD_FILLED = """
import sys
import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load(sys.argv[1])
db = SamDB(url=lp.private_path("sam.ldb"), session_info=system_session(), lp=lp)
for name in "svc ann bob carol dave mallory gone disabled expired mustchange locked hours".split():
    must_change = name == "mustchange"
    mail = name + "@example.test"
    db.newuser(name, sys.argv[2], mailaddress=mail,
               force_password_change_at_next_login_req=must_change)
db.disable_account("(sAMAccountName=disabled)")
db.setexpiry("(sAMAccountName=expired)", -86400)
db.newgroup("admins")
db.newgroup("inner")
db.add_remove_group_members("inner", ["ann"])
db.add_remove_group_members("admins", ["inner", "bob"])

def change(dn, **values):
    message = ldb.Message(ldb.Dn(db, dn))
    for name, value in values.items():
        message[name] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, name)
    db.modify(message)

base = str(db.domain_dn())
change(base, lockoutThreshold="2")
change("CN=hours,CN=Users," + base, logonHours=bytes(21))
change("CN=bob,CN=Users," + base, userPrincipalName="robert@other.test")
change("CN=mallory,CN=Users," + base, userPrincipalName="dave@other.test")
db.setpassword("(sAMAccountName=mallory)", sys.argv[2] + "-of-mallory", False)
"""


def python_ldap() -> ModuleType:
    """Give python-ldap, as a client of the tests' own."""
    try:
        return importlib.import_module("ldap")
    except ImportError:
        do_without("python-ldap is not installed: pip install 'manykeys[ldap]'")


@dataclass
class Slapd:
    """A running slapd."""

    folder: Path
    authority: Authority
    files: Files
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Where it speaks TLS."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def plain_url(self) -> str:
        """Where it speaks TLS only when asked to."""
        return f"ldap://127.0.0.1:{self.port}"

    def settings(self, **more: object) -> dict[str, object]:
        """Give the table of a strategy that uses it."""
        return {
            "use": "ldap",
            "servers": [self.url],
            "caFile": str(self.authority.cert),
            "bindDn": SERVICE,
            "bindPassword": SECRET,
            "base": PEOPLE,
            **more,
        }

    def direct(self, **more: object) -> dict[str, object]:
        """Give the table of one that binds directly."""
        table = self.settings(userDn=f"uid={{username}},{PEOPLE}", **more)
        return {name: table[name] for name in table if name not in ("bindDn", "bindPassword")}

    def as_root(self):  # noqa: ANN201
        """Give a connection that may do everything."""
        client = python_ldap().initialize(self.plain_url)
        client.simple_bind_s(ROOT, ROOT_PASSWORD)
        return client

    def add(self, dn: str, *kinds: str, **values: str | bytes | list[str]) -> str:
        """Enter an entry, in the place of the one of this name."""
        client = self.as_root()
        self.remove(dn)
        given = {"objectClass": list(kinds), **values}
        client.add_s(dn, [(name, _bytes(value)) for name, value in given.items()])
        client.unbind_s()
        return dn

    def add_person(self, uid: str, password: str = SECRET, **more: str | bytes | list[str]) -> str:
        """Enter somebody who can log in."""
        dn = f"uid={python_ldap().dn.escape_dn_chars(uid)},{PEOPLE}"
        own = {"uid": uid, "cn": uid, "sn": uid} | ({"userPassword": password} if password else {})
        return self.add(dn, "inetOrgPerson", **own, **more)

    def add_group(self, name: str, *members: str) -> str:
        """Enter a group."""
        return self.add(f"cn={name},{GROUPS}", "groupOfNames", cn=name, member=list(members))

    def change(self, dn: str, **values: str | bytes | list[str] | None) -> None:
        """Replace attributes, or take them away."""
        client, replace = self.as_root(), python_ldap().MOD_REPLACE
        changes = [
            (replace, name, None if value is None else _bytes(value))
            for name, value in values.items()
        ]
        client.modify_s(dn, changes)
        client.unbind_s()

    def rename(self, dn: str, new: str) -> None:
        """Give an entry another first name."""
        client = self.as_root()
        client.rename_s(dn, new)
        client.unbind_s()

    def remove(self, dn: str) -> None:
        """End an entry, if it is there."""
        client, ldap = self.as_root(), python_ldap()
        try:
            # Asked for first: the overlay `memberof` ends slapd when a first entry is deleted.
            client.search_s(dn, ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"])
            client.delete_s(dn)
        except ldap.NO_SUCH_OBJECT:
            return
        finally:
            client.unbind_s()


def _bytes(value: str | bytes | list[str]) -> list[bytes]:
    values = value if isinstance(value, list) else [value]
    return [one.encode() if isinstance(one, str) else one for one in values]


@contextmanager
def slapd(folder: Path) -> Iterator[Slapd]:
    """Run a slapd with Ann, Bob and a service account in it."""
    program = shutil.which("slapd", path=_SBIN)
    if program is None:
        do_without("slapd is not installed")
    python_ldap()
    authority = Authority(folder)
    made = Slapd(folder, authority, authority.sign("slapd"))
    (folder / "db").mkdir()
    text = _CONFIGURATION.format(
        folder=folder,
        ca=authority.cert,
        files=made.files,
        base=BASE,
        root=ROOT,
        password=ROOT_PASSWORD,
    )
    (folder / "slapd.conf").write_text(text)
    urls = f"{made.plain_url}/ {made.url}/"
    command = [program, "-d", "0", "-f", str(folder / "slapd.conf"), "-h", urls]
    with _started(command, folder, [("127.0.0.1", made.port), ("127.0.0.1", made.tls_port)]):
        made.add(BASE, "dcObject", "organization", dc="example", o="example")
        for ou in ("people", "groups"):
            made.add(f"ou={ou},{BASE}", "organizationalUnit", ou=ou)
        made.add(
            SERVICE, "organizationalRole", "simpleSecurityObject", cn="service", userPassword=SECRET
        )
        yield made


@dataclass(frozen=True)
class ActiveDirectory:
    """A running Samba."""

    host: str
    ca: Path

    def settings(self, **more: object) -> dict[str, object]:
        """Give the table of a strategy that uses it."""
        return {
            "use": "ldap",
            "activeDirectory": True,
            "servers": [f"ldaps://{self.host}"],
            "caFile": str(self.ca),
            "bindDn": "svc@corp.example.test",
            "bindPassword": SECRET,
            "base": AD_BASE,
            "domain": "corp.example.test",
            "netbiosName": "CORP",
            **more,
        }


AD_BASE = "DC=corp,DC=example,DC=test"


@contextmanager
def active_directory(folder: Path) -> Iterator[ActiveDirectory]:
    """Run a Samba as the only controller of a new domain, on an address of this machine alone: its
    ports are fixed, and below 1024."""
    python_ldap()
    samba, tool = (shutil.which(name, path=_SBIN) for name in ("samba", "samba-tool"))
    if samba is None or tool is None:
        do_without("samba-ad-dc is not installed")
    host = f"127.77.{os.getpid() % 250}.1"  # tests in another process have another one
    try:
        socket.create_server((host, 636)).close()
    except OSError as reason:
        do_without(f"nothing can listen on port 636 of {host}: {reason.strerror}")
    state = folder / "ad"
    given = {"interfaces": f"{host}/8", "bind interfaces only": "yes", "server services": "ldap"}
    _run(
        [
            *(tool, "domain", "provision", "--quiet", "--realm=CORP.EXAMPLE.TEST"),
            *("--domain=CORP", f"--adminpass={SECRET}", "--server-role=dc", "--dns-backend=NONE"),
            *(f"--targetdir={state}", "--host-name=dc1", "--host-ip=127.0.0.1"),
            *(f"--option={name}={value}" for name, value in given.items()),
        ]
    )
    configuration = str(state / "etc/smb.conf")
    (folder / "filled.py").write_text(_AD_FILLED)
    _run(["/usr/bin/python3", str(folder / "filled.py"), configuration, SECRET])
    authority = Authority(folder, host)
    files = authority.sign("samba")
    given |= {
        "tls cafile": str(authority.cert),
        "tls certfile": str(files.cert),
        "tls keyfile": str(files.key),
        "pid directory": str(folder),
        "ncalrpc dir": str(folder / "ncalrpc"),
        "log file": str(folder / "log"),
    }
    files.key.chmod(0o600)  # Samba takes no key that others can read
    options = [f"--option={name}={value}" for name, value in given.items()]
    command = [samba, "--interactive", "--model=single", "-s", configuration, *options]
    with _started(command, folder, [(host, 636), (host, 389)]):
        yield ActiveDirectory(host, authority.cert)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        do_without(f"{Path(command[0]).name} fails: {done.stderr.strip()[-300:]}")


@contextmanager
def _started(command: list[str], folder: Path, places: list[tuple[str, int]]) -> Iterator[None]:
    """Run a server until the test is over, once it listens at these places."""
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
        )
    try:
        for place in places:
            _wait_for(place, process, folder)
        yield
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _wait_for(place: tuple[str, int], process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            socket.create_connection(place, timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    do_without(f"no server at {place}: {(folder / 'printed').read_text(errors='replace')[-300:]}")
