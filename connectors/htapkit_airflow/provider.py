"""What Airflow asks of a provider. It imports nothing, since Airflow asks at every start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAME = "htapkit"


def get_provider_info() -> Mapping[str, Any]:
    """The connection type with its form, the modules, and the scheme of the assets."""
    return {
        "package-name": "htapkit",
        "name": _NAME,
        "description": "Moves history to the lake and verifies the copy, at a running htapkit.",
        "integrations": [{"integration-name": _NAME, "tags": ["service"]}],
        "hooks": [_modules("hook")],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "triggers": [_modules("triggers")],
        "connection-types": [_CONNECTION],
        "asset-uris": [
            {
                "schemes": ["htapkit"],
                "handler": "htapkit_airflow.assets.checked_uri",
                "factory": "htapkit_airflow.assets.lake_asset",
            }
        ],
    }


def _modules(module: str) -> Mapping[str, Any]:
    return {"integration-name": _NAME, "python-modules": [f"htapkit_airflow.{module}"]}


_CONNECTION = {
    "connection-type": "htapkit",
    "hook-name": "htapkit",
    "hook-class-name": "htapkit_airflow.hook.HtapkitHook",
    "ui-field-behaviour": {
        "hidden-fields": ["login", "schema", "extra"],
        "relabeling": {"password": "Token"},
        "placeholders": {
            "host": "127.0.0.1",
            "port": "6480",
            "password": "servers.http.token of htapkit.yaml; empty where it has none",
        },
    },
    "conn-fields": {
        "tls": {
            "label": "TLS",
            "description": "The address is behind a proxy that speaks https.",
            "schema": {"type": ["boolean", "null"], "default": False},
        }
    },
}
