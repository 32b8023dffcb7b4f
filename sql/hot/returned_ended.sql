SELECT {columns} FROM {returned} WHERE ends <= {now}
