-- Written places of which nothing is here: they may be the lake's.
SELECT place, {keys}
FROM {rows}
WHERE place NOT IN (SELECT place FROM {records}) AND place NOT IN (SELECT place FROM {cells})
