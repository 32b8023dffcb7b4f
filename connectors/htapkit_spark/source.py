"""The data source: what Spark calls, at planning in one process and at reading in others.

A read is one statement, which htapkit answers from hot store and lake at one boundary. Spark's
workers get it pickled: only options and statements travel, never a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    EqualNullSafe,
    EqualTo,
    Filter,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    InputPartition,
    IsNotNull,
    IsNull,
    LessThan,
    LessThanOrEqual,
)
from pyspark.sql.types import StructType

from htapkit.client import ServerRefused
from htapkit.errors import ConfigError
from htapkit_spark import connection, statement
from htapkit_spark.options import Options, read_options
from htapkit_spark.types import spark_batch, spark_schema

_Comparison = (
    EqualTo | EqualNullSafe | LessThan | LessThanOrEqual | GreaterThan | GreaterThanOrEqual
)
_OPERATORS: dict[type[Filter], str] = {
    EqualTo: "=",
    EqualNullSafe: "=",
    LessThan: "<",
    LessThanOrEqual: "<=",
    GreaterThan: ">",
    GreaterThanOrEqual: ">=",
}


class HtapkitDataSource(DataSource):
    """`spark.read.format("htapkit")`: tables and queries of a running htapkit, over Flight SQL."""

    @classmethod
    def name(cls) -> str:
        """What stands in `format`."""
        return "htapkit"

    def schema(self) -> StructType:
        """All columns, where the user did not choose some. Raises ConfigError, ServerRefused."""
        options = read_options(self.options)
        sql = statement.select(options.relation, (), ())
        return spark_schema(connection.columns(options, sql))

    def reader(self, schema: StructType) -> HtapkitReader:
        """One read of these columns. Raises ConfigError."""
        options = read_options(self.options)
        return (FilteringReader if options.push_filters else HtapkitReader)(options, schema)


@dataclass(slots=True)
class Part(InputPartition):
    """What one task reads: behind a ticket, or, where a statement is one stream, the statement."""

    sql: str
    ticket: bytes  # b"": run the statement
    schema: pa.Schema


class HtapkitReader(DataSourceReader):
    """One read: planned once, its parts read by tasks."""

    def __init__(self, options: Options, schema: StructType) -> None:
        """`schema` is the user's choice of columns, or all of them."""
        self._options = options
        self._schema = schema
        self._conditions = [options.where] if options.where else []

    def partitions(self) -> Sequence[InputPartition]:
        """One for each ticket of the statement. Raises ConfigError, ServerRefused."""
        names = self._schema.fieldNames()
        sql = statement.select(self._options.relation, names, self._conditions)
        given = connection.tickets(self._options, sql)
        self._check_types(given.schema)
        if len(given.tickets) == 1:
            # The statement alone does not expire, however late a task begins.
            return [Part(sql, b"", given.schema)]
        return [Part(sql, ticket, given.schema) for ticket in given.tickets]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a part. Raises ServerUnreachable, ServerRefused."""
        assert isinstance(partition, Part), "made by `partitions`"
        if partition.ticket:
            batches = connection.rows_of_ticket(self._options, partition.ticket)
        else:
            batches = connection.rows_of_statement(self._options, partition.sql)
        for batch in batches:
            if batch.schema.types != partition.schema.types:
                raise ServerRefused("a column has changed its type since the read was planned")
            yield spark_batch(batch)

    def _check_types(self, there: pa.Schema) -> None:
        """Raise ConfigError where the columns that the user chose have other types there."""
        for wanted, found in zip(self._schema, spark_schema(there), strict=True):
            if wanted.dataType != found.dataType:
                raise ConfigError(
                    f"column {wanted.name} is {found.dataType.simpleString()}, and the schema "
                    f"says {wanted.dataType.simpleString()}; leave its type, and cast in Spark"
                )


class FilteringReader(HtapkitReader):
    """The same with Spark's filters, where that is asked for.

    It is not done unasked: Spark 4.1 keeps one plan for each loaded DataFrame, so that the filters
    of one query on it would be those of the next, and of another branch of a union. Nor may other
    readers have the method: without `spark.sql.python.filterPushdown.enabled` Spark refuses it.
    """

    def pushFilters(self, filters: list[Filter]) -> Iterator[Filter]:  # noqa: N802 - Spark's name
        """Send along what can be sent; Spark applies all filters in any case."""
        for each in filters:
            sent = self._condition(each)
            if sent is not None:
                self._conditions.append(sent)
            yield each

    def _condition(self, each: Filter) -> str | None:
        """What can be sent of a filter."""
        match each:
            case IsNull(attribute=(name,)):
                return statement.null_condition(name, null=True)
            case IsNotNull(attribute=(name,)):
                return statement.null_condition(name, null=False)
            case EqualNullSafe(attribute=(name,), value=None):
                return statement.null_condition(name, null=True)
            case In(attribute=(name,), value=several):
                return statement.condition(name, self._kind(name), "=", tuple(several))
        if not isinstance(each, _Comparison) or len(each.attribute) != 1:
            return None
        (name,) = each.attribute
        operator = _OPERATORS[type(each)]
        return statement.condition(name, self._kind(name), operator, (each.value,))

    def _kind(self, column: str) -> str:
        return self._schema[column].dataType.typeName()
