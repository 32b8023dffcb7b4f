-- What values of user-defined types are printed with: the labels of enums; and the attributes of each composite type,
-- or table, whose rows are values somewhere (under negative numbers; their names are not printed).
WITH used (type) AS (
    SELECT atttypid FROM pg_attribute WHERE attnum > 0 AND atttypid >= 16384
    UNION SELECT typbasetype FROM pg_type WHERE typtype = 'd'
    UNION SELECT rngsubtype FROM pg_range
), composed (class) AS (
    SELECT t.typrelid FROM used u JOIN pg_type t ON t.oid = u.type WHERE t.typrelid <> 0
    UNION
    SELECT e.typrelid
      FROM used u JOIN pg_type t ON t.oid = u.type JOIN pg_type e ON e.oid = t.typelem
     WHERE e.typrelid <> 0
)
SELECT oid::int8, enumlabel::text FROM pg_enum
UNION ALL
SELECT -c.class::int8, md5(string_agg(concat_ws(':', a.attnum, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum))
  FROM composed c
  JOIN pg_attribute a ON a.attrelid = c.class AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY c.class
