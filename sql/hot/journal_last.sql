-- The last entry that a source's journal has or had, as far as anybody knows.
SELECT greatest(
    (SELECT coalesce(max(number), 0) FROM htapkit.journal WHERE source = $1),
    (SELECT coalesce(max(confirmed), 0) FROM htapkit.readers WHERE source = $1)
)
