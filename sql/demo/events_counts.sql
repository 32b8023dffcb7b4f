-- Asked of the copy; events_counts_cql.sql asks the node the same.
SELECT entity_id, count(*) AS events, sum(quantity) AS quantity, max(event_time) AS last
FROM events.demo.events
GROUP BY entity_id
