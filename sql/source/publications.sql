-- Our publications. Asked as JSON, because the columns differ between versions.
SELECT p.oid::int8, p.pubname, p.pubinsert AND p.pubtruncate, p.pubupdate AND p.pubdelete, p.pubviaroot,
       coalesce(to_jsonb(p) ->> 'pubgencols', ''), p.puballtables,
       pg_get_userbyid(p.pubowner), pg_has_role(p.pubowner, 'USAGE'), p.xmin::text
  FROM pg_publication p
 WHERE p.pubname = ANY (%(publications)s)
