SELECT {kept} FROM {table} EXCEPT ALL SELECT {now} FROM {rows}
