-- Cassandra's events and PostgreSQL's customers in one statement.
SELECT c.country, count(*) AS purchases, sum(e.quantity) AS quantity
FROM customers c
JOIN events.demo.events e ON e.entity_id = c.id
WHERE e.kind = 'purchase'
GROUP BY c.country
