-- What has an end stays: nothing in the lake ever ends by itself. Also of cells that do not count.
place NOT IN (
    SELECT place FROM {records} WHERE expires IS NOT NULL
    UNION ALL
    SELECT place FROM {cells} WHERE expires IS NOT NULL
)
