DELETE FROM htapkit.sources
WHERE version < (SELECT max(version) FROM htapkit.sources)
