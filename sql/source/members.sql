-- What our publications hold: the table as it was listed, whether rows or columns are left out, and the number
-- of this membership: a table that was taken out and put in again has another one.
SELECT r.prpubid::int8, r.prrelid::int8, r.prqual IS NOT NULL, r.prattrs IS NOT NULL, r.oid::int8
  FROM pg_publication_rel r
  JOIN pg_publication p ON p.oid = r.prpubid
 WHERE p.pubname = ANY (%(publications)s)
UNION ALL
SELECT s.pnpubid::int8, c.oid::int8, false, false, s.oid::int8
  FROM pg_publication_namespace s
  JOIN pg_publication p ON p.oid = s.pnpubid
  JOIN pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')
 WHERE p.pubname = ANY (%(publications)s)
