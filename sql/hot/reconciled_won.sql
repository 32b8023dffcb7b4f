(SELECT place, within, {keys}, ordinal, path, cell.* FROM ({winners}))
