SELECT place FROM {rows}
UNION
SELECT place FROM {cells} WHERE within IN (SELECT place FROM {rows})
UNION
SELECT within FROM {cells} WHERE within IS NOT NULL AND place IN (SELECT place FROM {rows})
