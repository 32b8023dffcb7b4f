INSERT INTO {tombstones} ({columns}) SELECT {keys} FROM {returned}
