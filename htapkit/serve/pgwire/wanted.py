"""What a client has asked for and the copy shall answer: the query, and the form of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from htapkit.plan.plan import CopyFormat, LocalQuery
from htapkit.serve.pgwire import own
from htapkit.serve.pgwire.copying import Copy
from htapkit.serve.pgwire.database import Described
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.portal import AtSource, Statement
from htapkit.serve.pgwire.rows_cells import WireColumn


@dataclass(frozen=True, slots=True)
class Wanted:
    """One local answer to be opened."""

    statement: Statement
    query: LocalQuery
    version: int  # of the catalog that it was planned on
    described: Described
    bound: Bound
    in_block: bool
    limit: int = 0
    clocks: tuple[object, ...] = ()  # the values of query.clocks

    def columns(self) -> tuple[WireColumn, ...]:
        """What the client gets, in the formats that it asked for. Raises AtSource."""
        fields = self.described.fields
        if fields is None:
            raise AtSource("the source says that it gives no rows")
        if self.query.finish is None:
            planned = own.described_types(self.query, made_up=bool(self.statement.shape))
            if planned != tuple(field.oid for field in fields):
                raise AtSource("the source gives columns of other types")
        formats = self.bound.result_formats(len(fields))
        return tuple(
            WireColumn(field.oid, field.typmod, code == 1)
            for field, code in zip(fields, formats, strict=True)
        )

    def copy(self) -> Copy | None:
        """How its rows are copied; None: they are sent. Raises AtSource."""
        if self.query.copied is None:
            return None
        fields = self.described.fields or ()
        return Copy(self.query.copied, self.columns(), [field.name for field in fields])


def copied_as(query: LocalQuery) -> Bound | None:
    """What a COPY says in the place of Bind: it has no parameters. None: it is none.

    Raises AtSource where it has some all the same.
    """
    if query.copied is None:
        return None
    if any(parameter.number > 0 for parameter in query.parameters):
        raise AtSource("COPY has no parameters")
    return Bound((), (), (1,) if query.copied.format is CopyFormat.BINARY else ())
