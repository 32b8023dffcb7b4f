-- One statement and the DuckDB text that it becomes; `-- finish:` is what PostgreSQL computes on its result.

-- name: names are qualified and quoted
SELECT id, note FROM orders WHERE customer = 3
----
SELECT t1."id" AS "c1", t1."note" AS "c2" FROM "shop.public"."orders" AS t1 WHERE (t1."customer" = CAST(3 AS INTEGER))

-- name: integer division truncates
SELECT customer / 2 FROM orders
----
SELECT (t1."customer" // CAST(2 AS INTEGER)) AS "c1" FROM "shop.public"."orders" AS t1

-- name: an interval is folded, and the column is not cast
SELECT id FROM orders WHERE placed < date '1995-01-31' + interval '1' month
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 WHERE (t1."placed" < DATE '1995-02-28')

-- name: the place of NULLs is spelled out
SELECT id FROM orders ORDER BY placed DESC, id
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 ORDER BY t1."placed" DESC NULLS FIRST, t1."id" ASC NULLS LAST

-- name: char(n) is compared padded
SELECT id FROM orders WHERE c = 'ab'
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 WHERE (t1."c" = 'ab   ')

-- name: an escape in LIKE is named
SELECT id FROM orders WHERE note LIKE 'a\%'
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 WHERE (t1."note" LIKE 'a\%' ESCAPE '\')

-- name: groups are an inner query
SELECT customer, count(*) FROM orders GROUP BY customer HAVING count(*) > 1
----
SELECT g2."k1" AS "c1", g2."a1" AS "c2" FROM (SELECT t1."customer" AS "k1", count(*) AS "a1" FROM "shop.public"."orders" AS t1 GROUP BY 1) AS g2 WHERE (g2."a1" > CAST(1 AS INTEGER))

-- name: an average is a sum and a count
SELECT avg(total) FROM orders
----
SELECT CAST(g2."a1" AS DECIMAL(38,2)) AS "c1", g2."a2" AS "c2" FROM (SELECT sum(t1."total") AS "a1", count(t1."total") AS "a2" FROM "shop.public"."orders" AS t1) AS g2
-- finish: SELECT (CAST(l.c1 AS numeric) / l.c2) FROM unnest($1::numeric[], $2::int8[]) AS l(c1, c2)

-- name: formatting is done at the source, ordering and the limit here
SELECT to_char(total, 'FM999') FROM orders ORDER BY id LIMIT 2
----
SELECT t1."total" AS "c1" FROM "shop.public"."orders" AS t1 ORDER BY t1."id" ASC NULLS LAST LIMIT 2
-- finish: SELECT to_char(CAST(l.c1 AS numeric(15,2)), 'FM999') FROM unnest($1::numeric[]) AS l(c1)

-- name: a document is read back by its own input function
SELECT j -> 'a' FROM orders
----
SELECT t1."j" AS "c1" FROM "shop.public"."orders" AS t1
-- finish: SELECT CAST(l.c1 AS jsonb) -> 'a' FROM unnest($1::text[]) AS l(c1)

-- name: a case of constants is not constant, and is sorted by
SELECT CASE WHEN id > 1 THEN 0 END AS c FROM orders ORDER BY c
----
SELECT (CASE WHEN (t1."id" > CAST(1 AS INTEGER)) THEN CAST(0 AS INTEGER) ELSE CAST(NULL AS INTEGER) END) AS "c1" FROM "shop.public"."orders" AS t1 ORDER BY (CASE WHEN (t1."id" > CAST(1 AS INTEGER)) THEN CAST(0 AS INTEGER) ELSE CAST(NULL AS INTEGER) END) ASC NULLS LAST

-- name: a negative zero keeps its sign
SELECT id FROM orders WHERE '-0'::float8 < id
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 WHERE (CAST('-0.0' AS DOUBLE) < CAST(t1."id" AS DOUBLE))
