SELECT DISTINCT place, {keys}
FROM (
    SELECT place, {keys}, expires FROM {records}
    UNION ALL
    SELECT place, {keys}, expires FROM {cells}
)
WHERE expires <= $1
