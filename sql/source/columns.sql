-- The columns of some tables, domains followed to their base type.
WITH RECURSIVE steps (domain, base, typmod) AS (
    SELECT oid, typbasetype, typtypmod FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT s.domain, t.typbasetype, greatest(s.typmod, t.typtypmod)
      FROM steps s JOIN pg_type t ON t.oid = s.base
     WHERE t.typtype = 'd'
), bases AS (
    SELECT s.domain, s.base, s.typmod FROM steps s JOIN pg_type t ON t.oid = s.base WHERE t.typtype <> 'd'
)
SELECT a.attrelid::int8, a.attname, a.attnum::int4,
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_constraint k
            WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated
              AND k.conkey = ARRAY[a.attnum]),
       tn.nspname, t.typname, t.oid::int8, t.typtype::text,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE coalesce(b.typmod, -1) END,
       CASE WHEN co.oid IS NULL THEN '' WHEN co.collprovider = 'd' THEN d.datlocprovider::text
            ELSE co.collprovider::text END,
       -- By its bytes, but with letters' cases of its own (LC_CTYPE is Turkish): not C's.
       CASE WHEN co.collprovider = 'd' AND lower('I') = 'i' THEN d.datcollate
            WHEN co.collcollate = co.collctype THEN co.collcollate ELSE '' END,
       coalesce(co.collisdeterministic, true),
       a.attgenerated::text, a.atthasmissing, a.atttypid::int8,
       coalesce(md5(pg_get_expr(def.adbin, def.adrelid)), ''),
       CASE WHEN co.oid IS NULL OR co.collprovider = 'd' THEN ''
            ELSE format('%%I.%%I', cn.nspname, co.collname) END
  FROM pg_attribute a
  LEFT JOIN bases b ON b.domain = a.atttypid
  JOIN pg_type t ON t.oid = coalesce(b.base, a.atttypid)
  JOIN pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_collation co ON co.oid = a.attcollation
  LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
  LEFT JOIN pg_attrdef def ON a.attgenerated <> '' AND def.adrelid = a.attrelid AND def.adnum = a.attnum
  JOIN pg_database d ON d.datname = current_database()
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
