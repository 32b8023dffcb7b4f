"""What Airflow finds of the provider: by its entry point, with a form for the connection."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

from airflow.providers_manager import ProvidersManager
from airflow.sdk import Asset, BaseHook
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

import htapkit_airflow
from htapkit_airflow.assets import lake_asset
from htapkit_airflow.hook import HtapkitHook, client_of
from tests.airflow.fake_api import FakeApi

pytestmark = pytest.mark.airflow


def test_entry_point() -> None:
    """Airflow finds the provider in the distribution, under its name."""
    found = [e for e in entry_points(group="apache_airflow_provider") if e.dist is not None]
    ours = [e for e in found if e.dist is not None and e.dist.name == "htapkit"]
    assert [e.load()()["package-name"] for e in ours] == ["htapkit"]


def test_modules_are_there() -> None:
    """Every module that the provider names exists."""
    info = htapkit_airflow.get_provider_info()
    folder = Path(htapkit_airflow.__file__).parent
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in info[kind][0]["python-modules"]:
            assert (folder / f"{module.partition('.')[2]}.py").is_file()


def test_connection_type_has_a_form() -> None:
    """The form shows address and token, and hides what has no meaning here."""
    hook = ProvidersManagerTaskRuntime().hooks["htapkit"]
    assert hook is not None
    assert hook.hook_class_name == "htapkit_airflow.hook.HtapkitHook"
    manager = ProvidersManager()
    behaviour = manager.field_behaviours["htapkit"]
    assert set(behaviour["hidden_fields"]) == {"login", "schema", "extra"}
    assert behaviour["relabeling"] == {"password": "Token"}
    assert "extra__htapkit__tls" in manager.connection_form_widgets


@pytest.mark.parametrize(
    ("uri", "address", "token"),
    [
        ("htapkit://db.example.org:6480", "http://db.example.org:6480", None),
        ("htapkit://", "http://127.0.0.1:6480", None),
        ("htapkit://:secret@h:1/?tls=true", "https://h:1", "Bearer secret"),
        ("htapkit://:secret@h:1/?tls=false", "http://h:1", "Bearer secret"),
        ("htapkit://%3A%3A1:7", "http://[::1]:7", None),
    ],
)
def test_address_of_a_connection(uri: str, address: str, token: str | None) -> None:
    """Host, port, token and TLS, with defaults for what is left out."""
    with client_of(Connection.from_uri(uri, conn_id="some")) as client:
        assert str(client._http.base_url).rstrip("/") == address
        assert client._http.headers.get("authorization") == token


def test_connection_test(api: FakeApi, connection: str) -> None:
    """The form's button: what the server says, or why there is none."""
    hook = BaseHook.get_hook(connection)
    assert isinstance(hook, HtapkitHook)
    hook.htapkit_conn_id = connection
    api.says("GET /api/v1/status", {"sources": [{"name": "shop", "state": "streaming"}]})
    assert hook.test_connection() == (True, "htapkit answers: shop is streaming")
    assert api.tokens == {"Bearer secret"}
    api.stop()
    worked, why = hook.test_connection()
    assert not worked
    assert "no htapkit answers" in why


def test_tables_of_a_state(api: FakeApi, connection: str) -> None:
    """Names in order, over all sources."""
    tables = {"b.s.t": "following", "a.s.u": "paused", "a.s.t": "following"}
    shown = [{"table": name, "state": state} for name, state in tables.items()]
    api.says("GET /api/v1/status", {"sources": [{"tables": shown[:1]}, {"tables": shown[1:]}]})
    hook = HtapkitHook(connection)
    assert hook.tables() == ["a.s.t", "b.s.t"]
    assert hook.tables("paused") == ["a.s.u"]


def test_unknown_verb(api: FakeApi, connection: str) -> None:
    """A verb that this version does not have is named; nothing private can be called."""
    for verb in ("polish", "_call", "__init__"):
        with pytest.raises(ValueError, match=f"knows no verb '{verb}'"):
            HtapkitHook(connection).queue(verb, {})
    assert not api.asked


def test_asset_addresses() -> None:
    """A table of the lake has one address; another is refused by Airflow's own check."""
    assert lake_asset("shop.public.orders").uri == "htapkit://lake/shop.public.orders"
    assert lake_asset("shop.public.Old Orders").uri == "htapkit://lake/shop.public.Old%20Orders"
    for wrong in ("htapkit://hot/shop.public.orders", "htapkit://lake/orders"):
        with pytest.raises(ValueError, match="expected htapkit://lake/source"):
            Asset(name=wrong, uri=wrong)
    with pytest.raises(ValueError, match=r"expected source\.schema\.table"):
        lake_asset("orders")
