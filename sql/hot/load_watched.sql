SELECT r.reader, r.source, w.schema_name, w.table_name
FROM htapkit.readers AS r LEFT JOIN htapkit.watched AS w ON w.source = r.source AND w.reader = r.reader
