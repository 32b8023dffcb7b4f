SELECT DISTINCT c.place
FROM {cells} AS c JOIN {rows} AS d ON c.place >= d.low AND c.place < d.high
