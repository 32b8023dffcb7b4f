"""A Spark job on a Cassandra table as htapkit has it: hot rows and lake rows, at one moment.

Events of each day and kind, as Parquet:

    python cassandra_job.py grpc://127.0.0.1:6433 demo.events event_time kind /tmp/events-per-day
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from htapkit_spark import HtapkitDataSource


def main(url: str, table: str, time: str, group: str, out: str) -> None:
    """Read, count, write."""
    spark = SparkSession.builder.appName("events per day").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.dataSource.register(HtapkitDataSource)
    events = (
        spark.read.format("htapkit")
        .options(url=url, database="events", table=table, freshness="strong", partitions="2")
        .schema(f"{time} timestamp, {group} string")  # only these columns travel
        .load()
    )
    per_day = events.groupBy(f.to_date(time).alias("day"), group).agg(f.count("*").alias("events"))
    per_day.coalesce(1).write.mode("overwrite").parquet(out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
