"""How a table's copy was begun, kept in its fingerprint: what says whether it can go on. Pure.

- From files: each node's part is all that it has, so a row is in one of them if rows lay on the
  same nodes all the time. A deletion that only another node has takes away what was read here, if
  that node still has it when its turn comes.
- Over CQL: a reading shows what its node may lose when it is killed. While none of them was started
  again, nothing that was shown is lost.
- Counters: of two readings the later one counts, and one that is cut short is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from htapkit.spi import Discovered
from htapkit_cassandra.replicas import Member

FILES: Final = "files"
CQL: Final = "cql"
COUNTERS: Final = "counters"


@dataclass(frozen=True, slots=True)
class Start:
    """What a copy depends on beside its table."""

    method: str
    placed: str = ""  # where rows lay (`lies`)
    boots: Mapping[str, int] = field(default_factory=dict)  # of each node: a number of its start
    at: int = 0  # in seconds
    grace: int | None = None  # so many seconds nodes keep a deletion; None: there is one node only


def noted(found: Discovered, start: Start, horizon: int) -> Discovered:
    """The table as it is copied. `horizon`: see `horizons`; 0: there is none."""
    told = {**json.loads(found.fingerprint), "horizon": horizon, "start": asdict(start)}
    return replace(found, fingerprint=json.dumps(told, sort_keys=True))


def start(fingerprint: str) -> Start | None:
    """What was noted; None = nothing."""
    found = json.loads(fingerprint).get("start")
    return None if found is None else Start(**found)


def hindrance(before: Start | None, now: Start) -> str:
    """Why a copy that began so cannot go on as copies are made now, "" = it can."""
    if before is None:
        return "nothing was noted of how its copy began"
    hindrances = {
        f"its copy began with {before.method}, and copies are made with {now.method} now": (
            before.method != now.method
        ),
        "counters are read in one go": now.method == COUNTERS,
        "its rows lie on other nodes than when its copy began": before.placed != now.placed,
        "a node was started again, which may have lost what it had shown the copy": (
            before.boots != now.boots
        ),
        f"it began more than gc_grace_seconds ago ({now.grace}), and deletions may be gone": (
            now.grace is not None and now.at - before.at > now.grace
        ),
    }
    return next((why for why, hinders in hindrances.items() if hinders), "")


def lies(members: Sequence[Member], replication: Mapping[str, str]) -> str:
    """A digest of where a keyspace's rows lie, by the nodes' tokens."""
    owners = sorted((m.host_id, m.datacenter, m.rack, sorted(m.tokens)) for m in members)
    told = json.dumps([owners, sorted(replication.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
