-- What changed since the run began does not leave.
DELETE FROM {leaving} AS leaving WHERE EXISTS (SELECT 1 FROM {touched} AS touched WHERE {equal})
