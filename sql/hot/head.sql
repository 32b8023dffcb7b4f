SELECT version, source, position, epoch_us(committed_at) AS committed_at FROM htapkit.sources
