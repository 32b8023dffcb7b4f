-- One statement and the DuckDB text that it becomes; `-- finish:` is what PostgreSQL computes on its result.

-- name: names are qualified and quoted
SELECT id, note FROM orders WHERE customer = 3
----
SELECT t1."id" AS "c1", t1."note" AS "c2" FROM "shop.public"."orders" AS t1 WHERE (t1."customer" = CAST(3 AS INTEGER))

-- name: integer division truncates
SELECT customer / 2 FROM orders
----
SELECT (t1."customer" // CAST(2 AS INTEGER)) AS "c1" FROM "shop.public"."orders" AS t1

-- name: a collation that is written down holds for both sides
SELECT note COLLATE "C" FROM orders WHERE note COLLATE "C" > c ORDER BY note COLLATE "C"
----
SELECT t1."note" AS "c1" FROM "shop.public"."orders" AS t1 WHERE (t1."note" > CASE WHEN suffix(t1."c", ' ') THEN rtrim(t1."c", ' ') ELSE t1."c" END) ORDER BY t1."note" ASC NULLS LAST

-- name: numbers that may have no rows
SELECT g, o.id FROM generate_series(1, 3) AS g LEFT JOIN orders o ON o.customer = g
----
SELECT t1."c1" AS "c1", t2."id" AS "c2" FROM (SELECT CAST(unnest(generate_series(CAST(CAST(1 AS INTEGER) AS BIGINT), CAST(CAST(3 AS INTEGER) AS BIGINT), CAST(1 AS BIGINT))) AS INTEGER) AS "c1") AS t1 LEFT JOIN "shop.public"."orders" AS t2 ON (t2."customer" = t1."c1")

-- name: a collation that is written down is written at the source, too
SELECT lpad(note COLLATE "C", 6, '*') FROM orders
----
SELECT t1."note" AS "c1" FROM "shop.public"."orders" AS t1
-- finish: SELECT lpad(l.c1 COLLATE "C", 6, '*') FROM unnest($1::text[]) AS l(c1)

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

-- name: a month as text is a key here
SELECT to_char(seen, 'YYYY-MM') AS m, count(*) FROM lines GROUP BY m ORDER BY m
----
SELECT g2."k1" AS "c1", g2."a1" AS "c2" FROM (SELECT CASE WHEN CASE WHEN t1."seen" < TIMESTAMP '1000-01-01 00:00:00' OR t1."seen" >= TIMESTAMP '9999-12-31 00:00:00' THEN CAST('htapkit: a year to write' AS BOOLEAN) ELSE FALSE END THEN NULL ELSE strftime(t1."seen", '%Y-%m') END AS "k1", count(*) AS "a1" FROM "shop.public"."lines" AS t1 GROUP BY 1) AS g2 ORDER BY g2."k1" ASC NULLS LAST

-- name: a bin is arithmetic on microseconds
SELECT date_bin('15 minutes', seen, '2001-01-01') FROM lines
----
SELECT CASE WHEN CASE WHEN isfinite(t1."seen") AND epoch_us(t1."seen") < CAST(978307200000000 AS BIGINT) THEN CAST('htapkit: before the origin' AS BOOLEAN) ELSE FALSE END THEN NULL ELSE CASE WHEN isfinite(t1."seen") THEN make_timestamp(epoch_us(t1."seen") - (epoch_us(t1."seen") - CAST(978307200000000 AS BIGINT)) % 900000000) ELSE t1."seen" END END AS "c1" FROM "shop.public"."lines" AS t1

-- name: a document's text is a key here, and an error where it is no plain value
SELECT j ->> 'kind', count(*) FROM orders GROUP BY 1
----
SELECT g2."k1" AS "c1", g2."a1" AS "c2" FROM (SELECT CASE WHEN CASE WHEN json_type(t1."j", '$."kind"') NOT IN ('VARCHAR', 'BOOLEAN', 'NULL', 'UBIGINT', 'BIGINT') THEN CAST('htapkit: a text of a document' AS BOOLEAN) ELSE FALSE END THEN NULL ELSE json_extract_string(t1."j", '$."kind"') END AS "k1", count(*) AS "a1" FROM "shop.public"."orders" AS t1 GROUP BY 1) AS g2

-- name: a document's text that is only shown is read by the source
SELECT j ->> 'kind' FROM orders
----
SELECT t1."j" AS "c1" FROM "shop.public"."orders" AS t1
-- finish: SELECT CAST(l.c1 AS jsonb) ->> 'kind' FROM unnest($1::text[]) AS l(c1)

-- name: an array's literal is a list
SELECT id FROM orders WHERE customer = ANY ('{1, 2}') AND note <> ALL ('{"a,b",NULL}'::text[])
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 WHERE ((t1."customer" IN (CAST(1 AS INTEGER), CAST(2 AS INTEGER))) AND (NOT (t1."note" IN ('a,b', CAST(NULL AS VARCHAR)))))

-- name: a percentile between two values is PostgreSQL's arithmetic on a sorted list
SELECT customer, percentile_cont(0.9) WITHIN GROUP (ORDER BY f) FROM orders GROUP BY customer
----
SELECT g2."k1" AS "c1", CASE WHEN floor((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) = ceil((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) THEN (g2."a1")[CAST(floor((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) AS BIGINT) + 1] ELSE ((g2."a1")[CAST(floor((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) AS BIGINT) + 1] + (((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE)) - floor((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE)))) * ((g2."a1")[CAST(ceil((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) AS BIGINT) + 1] - (g2."a1")[CAST(floor((CAST(0.9 AS DOUBLE) * CAST(len(g2."a1") - 1 AS DOUBLE))) AS BIGINT) + 1]))) END AS "c2" FROM (SELECT t1."customer" AS "k1", list_sort(list(CASE WHEN CASE WHEN t1."f" = 0 AND signbit(t1."f") THEN CAST('htapkit: negative zero' AS BOOLEAN) ELSE FALSE END THEN NULL ELSE t1."f" END) FILTER (WHERE CASE WHEN CASE WHEN t1."f" = 0 AND signbit(t1."f") THEN CAST('htapkit: negative zero' AS BOOLEAN) ELSE FALSE END THEN NULL ELSE t1."f" END IS NOT NULL), 'ASC') AS "a1" FROM "shop.public"."orders" AS t1 GROUP BY 1) AS g2

-- name: a percentile that is a value, of some rows
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total DESC) FILTER (WHERE customer > 1) FROM orders
----
SELECT (g2."a1")[greatest(CAST(ceil(CAST(0.5 AS DOUBLE) * CAST(len(g2."a1") AS DOUBLE)) AS BIGINT), 1)] AS "c1" FROM (SELECT list_sort(list(t1."total") FILTER (WHERE t1."total" IS NOT NULL AND ((t1."customer" > CAST(1 AS INTEGER)))), 'DESC') AS "a1" FROM "shop.public"."orders" AS t1) AS g2

-- name: of the most frequent values the first
SELECT mode() WITHIN GROUP (ORDER BY note) FROM orders
----
SELECT list_reduce(map_entries(g2."a1"), lambda a, b: CASE WHEN b.value > a.value OR (b.value = a.value AND b.key < a.key) THEN b ELSE a END).key AS "c1" FROM (SELECT histogram(t1."note") AS "a1" FROM "shop.public"."orders" AS t1) AS g2
