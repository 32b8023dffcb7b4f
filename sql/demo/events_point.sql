-- What one customer did. {entity} is a number.
SELECT entity_id, event_time, kind, amount, quantity
FROM events.demo.events
WHERE entity_id = {entity}
ORDER BY event_time
