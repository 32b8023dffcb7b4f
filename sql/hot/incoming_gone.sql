INSERT INTO gone SELECT {key} FROM former AS f WHERE EXISTS (SELECT 1 FROM {rows} AS b WHERE {equal})
