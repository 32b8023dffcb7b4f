-- What our publications hold: the table, whether rows or columns are left out, the mark of this membership (a table
-- that was taken out and put in again has another one), and whether the table itself is listed. One that is there
-- with its schema comes second, because it is then sent whole; its mark tells when it was last put into that schema.
SELECT r.prpubid::int8, r.prrelid::int8, r.prqual IS NOT NULL, r.prattrs IS NOT NULL, r.oid::text, true AS listed
  FROM pg_publication_rel r
  JOIN pg_publication p ON p.oid = r.prpubid
 WHERE p.pubname = ANY (%(publications)s)
UNION ALL
SELECT s.pnpubid::int8, c.oid::int8, false, false, concat_ws('-', s.oid, d.xmin), false
  FROM pg_publication_namespace s
  JOIN pg_publication p ON p.oid = s.pnpubid
  JOIN pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
       AND d.refclassid = 'pg_namespace'::regclass
 WHERE p.pubname = ANY (%(publications)s)
 ORDER BY listed DESC
