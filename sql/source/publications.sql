-- Our publications. Asked as JSON, because the columns differ between versions. Updates without deletes, or deletes
-- without updates, are neither of what we need.
SELECT p.oid::int8, p.pubname, p.pubinsert AND p.pubtruncate,
       CASE WHEN p.pubupdate = p.pubdelete THEN p.pubupdate END, p.pubviaroot,
       coalesce(to_jsonb(p) ->> 'pubgencols', ''), p.puballtables,
       pg_get_userbyid(p.pubowner), pg_has_role(p.pubowner, 'USAGE'), p.xmin::text
  FROM pg_publication p
 WHERE p.pubname = ANY (%(publications)s)
