SELECT entity_id, count(*) AS events, sum(quantity) AS quantity, max(event_time) AS last
FROM demo.events
GROUP BY entity_id
