-- CQL, for the demo's Cassandra node, whose log is read.
CREATE KEYSPACE demo WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};

CREATE TABLE demo.events (
    entity_id  bigint,
    event_time timestamp,
    kind       text,
    amount     decimal,
    quantity   int,
    PRIMARY KEY (entity_id, event_time)
) WITH cdc = true
