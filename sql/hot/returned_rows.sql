-- Those that had not ended.
SELECT {columns} FROM {returned} WHERE ends IS NULL OR ends > {now}
