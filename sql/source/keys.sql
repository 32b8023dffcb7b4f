-- The indexes that can identify rows: the primary key and the one chosen as replica identity.
SELECT i.indrelid::int8, i.indisprimary, i.indisreplident, i.indimmediate,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE k.place <= i.indnkeyatts)
  FROM pg_index i
 WHERE i.indrelid = ANY (%(tables)s::oid[]) AND (i.indisprimary OR i.indisreplident) AND i.indisvalid
 ORDER BY i.indexrelid
