NOT EXISTS (FROM {rows} AS now WHERE {equal})
