"""Which machine has a node's files, by the settings of that node."""

from __future__ import annotations

from pathlib import Path

from htapkit_cassandra.here import Here
from htapkit_cassandra.link import host_and_port
from htapkit_cassandra.machine import Machine
from htapkit_cassandra.remote import Address, Remote, trusting
from htapkit_cassandra.settings import Settings


def machine(node: Settings, folder: Path | None = None) -> Machine:
    """Ours, with a folder for the readers' files, or the agent's. Raises SourceRefused."""
    if node.agent:
        at = host_and_port(node.agent)
        assert at is not None, "the settings are checked"
        tls = trusting(node.agent_ca) if node.agent_ca else None
        return Remote(Address(*at, node.agent_token, tls), node.source)
    return Here(
        cdc_raw=node.cdc_raw,
        cassandra_home=node.cassandra_home,
        memory=node.helper_memory,
        jmx=node.jmx,
        data_folders=node.data_folders,
        folder=folder,
    )
