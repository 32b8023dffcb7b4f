-- The wanted places, those that lie within them, and those that they lie within.
WITH there AS (
    SELECT place, within, {keys} FROM {records}
    UNION ALL
    SELECT place, within, {keys} FROM {cells}
)
SELECT place, {keys} FROM {rows}
UNION
SELECT place, {keys} FROM there WHERE within IN (SELECT place FROM {rows})
UNION
SELECT place, {keys} FROM there WHERE place IN (
    SELECT within FROM there WHERE within IS NOT NULL AND place IN (SELECT place FROM {rows})
)
