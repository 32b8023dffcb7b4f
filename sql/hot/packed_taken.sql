DELETE FROM {table} WHERE place IN (SELECT place FROM {places})
