-- Rows of one relation that another one has, too: each is called by a name, for the condition.
DELETE FROM {table} AS {one} WHERE EXISTS (SELECT 1 FROM {others} AS {other} WHERE {equal})
