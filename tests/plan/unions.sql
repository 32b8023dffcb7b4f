-- Statements over tables with a part in the lake, and what becomes of them; `-- route:` is the route, each `-- scan:` a
-- view with its table and the times that it must give. Boundaries: visits.at and beats.seen 2024-06-01, sales.day
-- 2024-03-01; orders has no part in the lake.

-- name: without a bound, both arms are read
SELECT id FROM visits
----
SELECT t1."id" AS "c1" FROM (SELECT "id", "at", "page", "took" FROM "shop.public"."visits" UNION ALL SELECT "id", "at", "page", "took" FROM "htapkit lake 1") AS t1
-- route: union
-- scan: htapkit lake 1, visits, -, -

-- name: from the boundary on, there is no lake
SELECT id FROM visits WHERE at >= '2024-06-01'
----
SELECT t1."id" AS "c1" FROM "shop.public"."visits" AS t1 WHERE (t1."at" >= TIMESTAMP '2024-06-01 00:00:00.000000')
-- route: hot

-- name: below it, the predicate stays and bounds the scan
SELECT id FROM sales WHERE day >= '2024-02-01' AND day < date '2024-02-01' + interval '1' month
----
SELECT t1."id" AS "c1" FROM (SELECT "id", "day", "sum" FROM "shop.public"."sales" UNION ALL SELECT "id", "day", "sum" FROM "htapkit lake 1") AS t1 WHERE ((t1."day" >= DATE '2024-02-01') AND (t1."day" < DATE '2024-03-01'))
-- route: union
-- scan: htapkit lake 1, sales, 2024-02-01 00:00:00, 2024-03-01 00:00:00

-- name: a table twice is two scans, each with its own bounds
SELECT a.id FROM sales a JOIN sales b ON a.id = b.id AND b.day < '2024-01-01' WHERE a.day > '2024-02-27'
----
SELECT t1."id" AS "c1" FROM (SELECT "id", "day", "sum" FROM "shop.public"."sales" UNION ALL SELECT "id", "day", "sum" FROM "htapkit lake 1") AS t1 INNER JOIN (SELECT "id", "day", "sum" FROM "shop.public"."sales" UNION ALL SELECT "id", "day", "sum" FROM "htapkit lake 2") AS t2 ON ((t1."id" = t2."id") AND (t2."day" < DATE '2024-01-01')) WHERE (t1."day" > DATE '2024-02-27')
-- route: union
-- scan: htapkit lake 1, sales, 2024-02-28 00:00:00, -
-- scan: htapkit lake 2, sales, -, 2024-01-01 00:00:00

-- name: a table without a part in the lake is as it was
SELECT o.id FROM orders o JOIN visits v ON v.id = o.id AND v.at > '2024-07-01'
----
SELECT t1."id" AS "c1" FROM "shop.public"."orders" AS t1 INNER JOIN "shop.public"."visits" AS t2 ON ((t2."id" = t1."id") AND (t2."at" > TIMESTAMP '2024-07-01 00:00:00.000000'))
-- route: hot

-- name: the preserved side of an outer join is read whole
SELECT v.id FROM visits v LEFT JOIN sales s ON s.id = v.id AND v.at >= '2024-07-01' AND s.day >= '2024-07-01'
----
SELECT t1."id" AS "c1" FROM (SELECT "id", "at", "page", "took" FROM "shop.public"."visits" UNION ALL SELECT "id", "at", "page", "took" FROM "htapkit lake 1") AS t1 LEFT JOIN "shop.public"."sales" AS t2 ON (((t2."id" = t1."id") AND (t1."at" >= TIMESTAMP '2024-07-01 00:00:00.000000')) AND (t2."day" >= DATE '2024-07-01'))
-- route: union
-- scan: htapkit lake 1, visits, -, -

-- name: a subquery has bounds of its own
SELECT id FROM visits WHERE at >= '2024-06-01' AND id IN (SELECT id FROM beats WHERE seen < '2024-01-01 00:00+01')
----
SELECT t1."id" AS "c1" FROM "shop.public"."visits" AS t1 WHERE ((t1."at" >= TIMESTAMP '2024-06-01 00:00:00.000000') AND (t1."id" IN (SELECT s3."c1" FROM (SELECT t2."id" AS "c1" FROM (SELECT "id", "seen", "host" FROM "shop.public"."beats" UNION ALL SELECT "id", "seen", "host" FROM "htapkit lake 1") AS t2 WHERE (t2."seen" < TIMESTAMPTZ '2023-12-31 23:00:00.000000+00')) AS s3)))
-- route: union
-- scan: htapkit lake 1, beats, -, 2023-12-31 23:00:00

-- name: what only PostgreSQL can compute is finished there, over both arms
SELECT to_char(max(at), 'CC') FROM visits WHERE at < '2024-02-01'
----
SELECT g2."a1" AS "c1" FROM (SELECT max(t1."at") AS "a1" FROM (SELECT "id", "at", "page", "took" FROM "shop.public"."visits" UNION ALL SELECT "id", "at", "page", "took" FROM "htapkit lake 1") AS t1 WHERE (t1."at" < TIMESTAMP '2024-02-01 00:00:00.000000')) AS g2
-- finish: SELECT to_char(l.c1, 'CC') FROM unnest($1::timestamp[]) AS l(c1)
-- route: union
-- scan: htapkit lake 1, visits, -, 2024-02-01 00:00:00
