INSERT INTO copy SELECT {columns} FROM batch AS b WHERE {range}
