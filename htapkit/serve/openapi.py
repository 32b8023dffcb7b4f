"""The OpenAPI document of the HTTP API, made from its one description in `operations`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from htapkit.serve.operations import OPERATIONS, PROBES, Body, Operation, Probe, Problem

DOCUMENT_PATH = "/api/v1/openapi.json"
_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    "400": "The request does not match this description.",
    "401": "The token is missing or wrong.",
    "404": "There is no such table, source or job, or the configuration does not allow it.",
    "409": "It cannot be done as things are.",
    "503": "It cannot be done now; try again.",
}


@cache
def document() -> Mapping[str, Any]:
    """The whole document (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {
        DOCUMENT_PATH: {"get": _described("openapi", "This document.", {"200": _json({})})}
    }
    for probe in PROBES:
        paths[probe.path] = {"get": _probe(probe)}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "htapkit", "version": version("htapkit")},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _schemas() -> Mapping[str, Any]:
    models: set[type[BaseModel]] = {Problem}
    models |= {each.answer for each in OPERATIONS} | {each.body for each in OPERATIONS}
    wanted = [(model, "validation") for model in sorted(models, key=lambda m: m.__name__)]
    _, made = models_json_schema(wanted, ref_template=_REFERENCE)  # type: ignore[arg-type]
    return made["$defs"]


def _operation(operation: Operation) -> Mapping[str, Any]:
    answers = {str(operation.status): _json(_named(operation.answer))}
    answers |= {code: _json(_named(Problem), why) for code, why in _ERRORS.items() if code != "401"}
    answers["401"] = {"description": _ERRORS["401"]}
    found = _described(operation.name, operation.summary, answers)
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if operation.body is not Body:
        required = any(field.is_required() for field in operation.body.model_fields.values())
        content = {"application/json": {"schema": _named(operation.body)}}
        found["requestBody"] = {"required": required, "content": content}
    return found


def _probe(probe: Probe) -> Mapping[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    answers = {
        str(code): {"description": "yes" if code == 200 else "not yet", "content": text}
        for code in probe.statuses
    }
    return {**_described(probe.name, probe.summary, answers), "security": []}


def _described(name: str, summary: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": answers}


def _json(schema: Mapping[str, Any], description: str = "Done.") -> Mapping[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _named(model: type[BaseModel]) -> Mapping[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
