"""Commands of other packages: found by entry point, and loaded when they are asked for."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from htapkit import plugins
from htapkit.cli import cli
from htapkit.errors import ConfigError
from htapkit.spi import COMMANDS

TOY = """
import click

@click.command()
@click.option("--number", type=int)
def toy(number):
    "Say a number."
    click.echo(f"toy {number}")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a command, one whose own requirement is missing, and one named as ours."""
    (tmp_path / "htapkit_toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "htapkit_toy", raising=False)
    entries = [
        EntryPoint("toy-command", "htapkit_toy:toy", COMMANDS),
        EntryPoint("lacking", "htapkit_toy_that_is_not_there:command", COMMANDS),
        EntryPoint("status", "htapkit_toy:toy", COMMANDS),
    ]

    def found(*, group: str) -> list[EntryPoint]:
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(plugins, "entry_points", found)


@pytest.mark.usefixtures("installed")
def test_a_command_of_another_package() -> None:
    """With its options; listed with ours; not looked into for a command of ours."""
    ours = CliRunner().invoke(cli, ["status", "--help"])
    assert "lag" in ours.output
    assert CliRunner().invoke(cli, ["no-such-command"]).exit_code == 2
    assert "htapkit_toy" not in sys.modules
    done = CliRunner().invoke(cli, ["toy-command", "--number", "7"])
    assert (done.exit_code, done.output) == (0, "toy 7\n")
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert "toy-command" in shown
    assert "Say a number." in shown
    assert "reload" in shown


@pytest.mark.usefixtures("installed")
def test_a_command_whose_package_lacks_another() -> None:
    """It is named; all other commands work."""
    done = CliRunner().invoke(cli, ["lacking", "start", "--option"])
    assert isinstance(done.exception, ConfigError)
    assert "`htapkit lacking` needs the package 'htapkit_toy_that_is_not_there'" in str(
        done.exception
    )
    assert CliRunner().invoke(cli, ["--help"]).exit_code == 0
