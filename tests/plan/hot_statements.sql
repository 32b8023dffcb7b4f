-- name: table in full
SELECT * FROM plain ORDER BY id
-- name: columns and aliases
SELECT p.id AS number, p.t "Text" FROM plain AS p ORDER BY p.id
-- name: table command
TABLE dim
-- name: where int equality
SELECT id, t FROM plain WHERE k = 3 ORDER BY id
-- name: where and or not
SELECT id FROM plain WHERE (k = 1 OR k = 2) AND NOT ok ORDER BY id
-- name: where null tests
SELECT id FROM plain WHERE n IS NULL OR t IS NOT NULL ORDER BY id
-- name: where is true
SELECT id FROM plain WHERE ok IS TRUE ORDER BY id
-- name: where is not true
SELECT id FROM plain WHERE ok IS NOT TRUE ORDER BY id
-- name: where bare boolean
SELECT id FROM plain WHERE ok ORDER BY id
-- name: where in list
SELECT id FROM plain WHERE k IN (1, 3, 5) ORDER BY id
-- name: where not in list
SELECT id FROM plain WHERE k NOT IN (1, 3, 5) ORDER BY id
-- name: where in texts
SELECT id FROM plain WHERE s IN ('North', 'or', '') ORDER BY id
-- name: where between
SELECT id FROM plain WHERE n BETWEEN 10 AND 50.5 ORDER BY id
-- name: where not between
SELECT id FROM plain WHERE n NOT BETWEEN 10 AND 50.5 ORDER BY id
-- name: where like
SELECT id FROM plain WHERE t LIKE 'b%' ORDER BY id
-- name: where like underscore
SELECT id FROM plain WHERE t LIKE '_ A%' ORDER BY id
-- name: where not like
SELECT id FROM plain WHERE t NOT LIKE '%A%' ORDER BY id
-- name: where like with escape
SELECT id FROM nasty WHERE t LIKE 'a\%b%' ORDER BY id
-- name: where like with its own escape
SELECT id FROM nasty WHERE t LIKE 'a!%b%' ESCAPE '!' ORDER BY id
-- name: where ilike
SELECT id FROM plain WHERE t ILIKE '%a%' ORDER BY id
-- name: where distinct from
SELECT id FROM plain WHERE i IS DISTINCT FROM 3 ORDER BY id
-- name: where not distinct from
SELECT id FROM plain WHERE i IS NOT DISTINCT FROM NULL::int ORDER BY id
-- name: where row equality
SELECT id FROM plain WHERE (k, ok) = (1, true) ORDER BY id
-- name: where row in
SELECT id FROM plain WHERE (k, id) IN ((1, 1), (2, 9), (3, 4)) ORDER BY id
-- name: where any array
SELECT id FROM plain WHERE k = ANY (ARRAY[1, 2]) ORDER BY id
-- name: where date literal
SELECT id FROM plain WHERE d >= '2024-01-01' AND d < '2024-02-01' ORDER BY id
-- name: where date and interval
SELECT id FROM plain WHERE d >= date '2024-01-01' AND d < date '2024-01-01' + interval '1 month' ORDER BY id
-- name: where date minus interval
SELECT id FROM plain WHERE d > date '2024-03-01' - interval '90' day ORDER BY id
-- name: where timestamp literal
SELECT id FROM plain WHERE ts > '2024-01-05 12:00:00' ORDER BY id
-- name: where timestamptz literal
SELECT id FROM plain WHERE tz > '2024-02-05 12:00:00+02' ORDER BY id
-- name: where date against timestamp
SELECT id FROM plain WHERE d < ts ORDER BY id
-- name: where char against literal
SELECT id FROM plain WHERE c = 'abc' ORDER BY id
-- name: where char in list
SELECT id, c FROM plain WHERE c IN ('abc', 'bcd   ', 'c') ORDER BY id
-- name: where char order
SELECT id FROM plain WHERE c < 'bc' ORDER BY id
-- name: where text order
SELECT id FROM plain WHERE t > 'm' ORDER BY id
-- name: where numeric against int
SELECT id FROM plain WHERE n > i ORDER BY id
-- name: where float against int
SELECT id FROM plain WHERE f > i ORDER BY id
-- name: where float literal
SELECT id FROM plain WHERE f = 0.5 ORDER BY id
-- name: where bigint literal
SELECT id FROM plain WHERE l > 100000000 ORDER BY id
-- name: int arithmetic
SELECT id, i + 1, i - k, i * 2, i / 4, i % 4, -i FROM plain ORDER BY id
-- name: bigint arithmetic
SELECT id, l + 1, l * 3, l / 7, l % 7 FROM plain ORDER BY id
-- name: smallint arithmetic
SELECT id, k + k, k * 2::smallint FROM plain ORDER BY id
-- name: numeric arithmetic
SELECT id, n + q, n - q, n * q, -n, n * 2, n + 1 FROM plain ORDER BY id
-- name: numeric arithmetic on wide values
SELECT id, n6 * n2, n6 + n2 FROM nasty WHERE id < 4 ORDER BY id
-- name: float arithmetic
SELECT id, f + 1, f * 2.5, f / 3, f - r FROM plain ORDER BY id
-- name: real arithmetic
SELECT id, r + r, r * 2 FROM plain ORDER BY id
-- name: abs and sign
SELECT id, abs(i), abs(n), abs(f), sign(n) FROM plain ORDER BY id
-- name: rounding of numeric
SELECT id, round(n), round(n, 1), floor(n), ceil(n), trunc(n) FROM plain ORDER BY id
-- name: rounding of float
SELECT id, round(f), floor(f), ceil(f), trunc(f) FROM plain ORDER BY id
-- name: casts between numbers
SELECT id, n::int, f::int, i::numeric, i::float8, n::numeric(10,1), i::bigint FROM plain ORDER BY id
-- name: casts to text
SELECT id, i::text, n::text, ok::text, c::text FROM plain ORDER BY id
-- name: boolean as int
SELECT id, ok::int FROM plain ORDER BY id
-- name: concatenation
SELECT id, t || '-' || k || s FROM plain ORDER BY id
-- name: concat with nulls
SELECT id, concat(t, '/', i, s) FROM plain ORDER BY id
-- name: substring
SELECT id, substring(t FROM 1 FOR 2), substr(t, 3), left(t, 1), right(t, 2) FROM plain ORDER BY id
-- name: lengths
SELECT id, length(t), char_length(s), octet_length(t), length(c) FROM plain ORDER BY id
-- name: lengths of unicode
SELECT id, length(t), octet_length(t) FROM nasty ORDER BY id
-- name: upper and lower
SELECT id, upper(t), lower(t) FROM plain ORDER BY id
-- name: case of letters beside constants
SELECT id, lower(t) = 'a', upper(s) IN ('A', 'B') FROM plain WHERE lower(t) LIKE 'a%' OR t ILIKE 'B_' ORDER BY id
-- name: deviations of exact numbers
SELECT k, stddev(n), stddev_pop(i), variance(q), var_pop(l % 1000), var_samp(k) FROM plain GROUP BY k ORDER BY k
-- name: the last day of a month
SELECT (date_trunc('month', d) + interval '1 month - 1 day')::date AS e, count(*), min(d + interval ' - 2 days + 1 month') FROM plain GROUP BY 1 ORDER BY 1
-- name: trims
SELECT id, trim(s), ltrim(t, 'abc'), rtrim(s), trim(both 'N' from s) FROM plain ORDER BY id
-- name: replace and position
SELECT id, replace(t, ' ', '_'), position('A' in t), strpos(t, ' ') FROM plain ORDER BY id
-- name: split part and md5
SELECT id, split_part(t, ' ', 2), md5(t) FROM plain ORDER BY id
-- name: starts with
SELECT id FROM plain WHERE starts_with(t, 'c') ORDER BY id
-- name: case
SELECT id, CASE WHEN k < 3 THEN 'low' WHEN k < 5 THEN 'mid' ELSE 'high' END FROM plain ORDER BY id
-- name: case without else
SELECT id, CASE WHEN ok THEN n END FROM plain ORDER BY id
-- name: simple case
SELECT id, CASE k WHEN 1 THEN i WHEN 2 THEN -i ELSE 0 END FROM plain ORDER BY id
-- name: coalesce
SELECT id, coalesce(i, 0), coalesce(t, s, 'none') FROM plain ORDER BY id
-- name: nullif greatest least
SELECT id, nullif(k, 3), greatest(i, k), least(i, 10) FROM plain ORDER BY id
-- name: extract from date
SELECT id, extract(year FROM d), extract(month FROM d), extract(day FROM d) FROM plain ORDER BY id
-- name: extract from timestamp
SELECT id, extract(hour FROM ts), extract(minute FROM ts), extract(second FROM ts), extract(dow FROM ts) FROM plain ORDER BY id
-- name: extract epoch and week
SELECT id, extract(epoch FROM ts), extract(week FROM d), extract(quarter FROM d), extract(doy FROM d) FROM plain ORDER BY id
-- name: date part
SELECT id, date_part('month', ts), date_part('isodow', d) FROM plain ORDER BY id
-- name: date trunc
SELECT id, date_trunc('hour', ts), date_trunc('week', ts), date_trunc('month', tz) FROM plain ORDER BY id
-- name: date trunc of date
SELECT id, date_trunc('month', d) FROM plain ORDER BY id
-- name: date arithmetic
SELECT id, d + 7, d - 7, d - date '2024-01-01', d + k FROM plain ORDER BY id
-- name: timestamp arithmetic
SELECT id, ts + interval '1 day', ts - interval '2 hours 30 minutes', d + interval '1 month' FROM plain ORDER BY id
-- name: timestamp to date
SELECT id, ts::date, tz::date FROM plain ORDER BY id
-- name: count
SELECT count(*), count(n), count(DISTINCT k) FROM plain
-- name: sums
SELECT sum(k), sum(i), sum(l), sum(n), sum(q) FROM plain
-- name: sum of nothing
SELECT sum(i), min(n), count(*) FROM plain WHERE id < 0
-- name: extremes
SELECT min(i), max(n), min(t), max(d), min(ts), max(tz), min(f), max(c) FROM plain
-- name: sum of products
SELECT sum(n * q), sum(n * (1 - q)) FROM plain
-- name: sum of case
SELECT k, sum(CASE WHEN ok THEN 1 ELSE 0 END) FROM plain GROUP BY k ORDER BY k
-- name: filter
SELECT k, count(*) FILTER (WHERE ok), sum(n) FILTER (WHERE i > 0) FROM plain GROUP BY k ORDER BY k
-- name: bool aggregates
SELECT k, bool_and(ok), bool_or(ok), every(id > 0) FROM plain GROUP BY k ORDER BY k
-- name: string agg
SELECT k, string_agg(s, ',' ORDER BY id DESC) FROM plain GROUP BY k ORDER BY k
-- name: distinct aggregates
SELECT count(DISTINCT t), sum(DISTINCT i), count(DISTINCT c), count(DISTINCT n) FROM plain
-- name: group by column
SELECT k, count(*), sum(n) FROM plain GROUP BY k ORDER BY k
-- name: group by two columns
SELECT k, ok, count(*) FROM plain GROUP BY k, ok ORDER BY k, ok
-- name: group by position
SELECT k % 2, count(*) FROM plain GROUP BY 1 ORDER BY 1
-- name: group by alias
SELECT k % 3 AS third, max(n) FROM plain GROUP BY third ORDER BY third
-- name: group by expression
SELECT date_trunc('day', ts), count(*), sum(n) FROM plain GROUP BY date_trunc('day', ts) ORDER BY 1
-- name: group by primary key
SELECT id, t, s, count(*) FROM plain GROUP BY id ORDER BY id
-- name: group by case
SELECT CASE WHEN n > 0 THEN 'up' ELSE 'down' END AS side, count(*) FROM plain GROUP BY side ORDER BY side
-- name: group by text
SELECT t, count(*) FROM plain GROUP BY t ORDER BY t NULLS FIRST
-- name: group by char
SELECT c, count(*) FROM plain GROUP BY c ORDER BY c
-- name: group by date
SELECT extract(month FROM d) AS m, count(*) FROM plain GROUP BY m ORDER BY m
-- name: group by numeric
SELECT n, count(*) FROM plain GROUP BY n ORDER BY n
-- name: having
SELECT k, sum(n) FROM plain GROUP BY k HAVING sum(n) > 1000 ORDER BY k
-- name: having count
SELECT t, count(*) FROM plain GROUP BY t HAVING count(*) > 3 ORDER BY t
-- name: having with subquery
SELECT k, sum(n) FROM plain GROUP BY k HAVING sum(n) > (SELECT sum(n) * 0.1 FROM plain) ORDER BY k
-- name: having average
SELECT k, count(*) FROM plain GROUP BY k HAVING avg(n) > 60 ORDER BY k
-- name: quotient of sums in where
SELECT k FROM (SELECT k, sum(i) AS a, count(i) AS b FROM plain GROUP BY k) x WHERE a::numeric / b > 0.5 ORDER BY k
-- name: grouping sets
SELECT k, ok, count(*) FROM plain GROUP BY GROUPING SETS ((k, ok), (k), ()) ORDER BY k, ok, 3
-- name: rollup
SELECT k, ok, sum(i) FROM plain GROUP BY ROLLUP (k, ok) ORDER BY 1, 2, 3
-- name: cube with grouping
SELECT k, ok, grouping(k, ok), count(*) FROM plain GROUP BY CUBE (k, ok) ORDER BY 3, 1, 2
-- name: order by desc
SELECT id, i FROM plain ORDER BY i DESC, id
-- name: order by nulls first
SELECT id, i FROM plain ORDER BY i NULLS FIRST, id DESC
-- name: order by nulls last
SELECT id, n FROM plain ORDER BY n DESC NULLS LAST, id
-- name: order by position
SELECT t, id FROM plain ORDER BY 1, 2
-- name: order by alias
SELECT id, n * 2 AS twice FROM plain ORDER BY twice DESC, id
-- name: order by expression
SELECT id FROM plain ORDER BY k % 3, id DESC
-- name: order by text
SELECT id, t FROM nasty ORDER BY t, id
-- name: order by aggregate
SELECT k, sum(n) AS total FROM plain GROUP BY k ORDER BY sum(n) DESC, k
-- name: limit
SELECT id FROM plain ORDER BY id LIMIT 5
-- name: limit offset
SELECT id FROM plain ORDER BY id DESC LIMIT 5 OFFSET 7
-- name: fetch first
SELECT id FROM plain ORDER BY id FETCH FIRST 3 ROWS ONLY
-- name: limit all
SELECT id FROM plain ORDER BY id LIMIT ALL OFFSET 190
-- name: top of groups
SELECT k, sum(n) AS total FROM plain GROUP BY k ORDER BY total DESC LIMIT 3
-- name: distinct
SELECT DISTINCT k, ok FROM plain ORDER BY k, ok
-- name: distinct texts
SELECT DISTINCT s FROM plain ORDER BY s DESC
-- name: distinct on
SELECT DISTINCT ON (k) k, id, n FROM plain ORDER BY k, id DESC
-- name: inner join
SELECT p.id, x.name FROM plain p JOIN dim x ON p.k = x.k ORDER BY p.id
-- name: comma join
SELECT p.id, x.name FROM plain p, dim x WHERE p.k = x.k AND x.rate > 2 ORDER BY p.id
-- name: left join
SELECT x.k, x.name, p.id FROM dim x LEFT JOIN plain p ON p.k = x.k AND p.id < 20 ORDER BY x.k, p.id
-- name: right join
SELECT x.k, p.id FROM plain p RIGHT JOIN dim x ON p.k = x.k AND p.id < 20 ORDER BY x.k, p.id
-- name: full join
SELECT x.k, p.id FROM plain p FULL JOIN dim x ON p.k = x.k + 5 ORDER BY x.k, p.id
-- name: join using
SELECT k, id, name FROM plain JOIN dim USING (k) ORDER BY id
-- name: natural join
SELECT * FROM dim NATURAL JOIN (SELECT k, count(*) AS number FROM plain GROUP BY k) y ORDER BY k
-- name: full join using
SELECT k, name, number FROM dim FULL JOIN (SELECT k, count(*) AS number FROM plain WHERE k < 4 GROUP BY k) y USING (k) ORDER BY k
-- name: join on char
SELECT p.id, x.k FROM plain p JOIN dim x ON p.c = x.code ORDER BY p.id, x.k
-- name: self join
SELECT a.id, b.id FROM plain a JOIN plain b ON a.i = b.i AND a.id < b.id ORDER BY 1, 2
-- name: join on range
SELECT p.id, x.k FROM plain p JOIN dim x ON p.d BETWEEN x.since AND x.since + 9 ORDER BY p.id, x.k
-- name: cross join
SELECT a.k, b.k FROM dim a CROSS JOIN dim b WHERE a.k < b.k ORDER BY 1, 2
-- name: join and group
SELECT x.name, count(*), sum(p.n * x.rate) FROM plain p JOIN dim x ON p.k = x.k GROUP BY x.name ORDER BY x.name
-- name: star of one table
SELECT x.*, p.id FROM plain p JOIN dim x ON p.k = x.k WHERE p.id < 10 ORDER BY p.id
-- name: subquery in from
SELECT y.k, y.total FROM (SELECT k, sum(n) AS total FROM plain GROUP BY k) y WHERE y.total > 500 ORDER BY y.k
-- name: column aliases of a subquery
SELECT a, b FROM (SELECT k, count(*) FROM plain GROUP BY k) AS y (a, b) ORDER BY a
-- name: in subquery
SELECT id FROM plain WHERE k IN (SELECT k FROM dim WHERE rate > 3) ORDER BY id
-- name: not in subquery
SELECT id FROM plain WHERE k NOT IN (SELECT k FROM dim WHERE rate > 3) ORDER BY id
-- name: not in subquery with nulls
SELECT id FROM plain WHERE k NOT IN (SELECT i FROM plain) ORDER BY id
-- name: exists
SELECT k FROM dim x WHERE EXISTS (SELECT 1 FROM plain p WHERE p.k = x.k AND p.n > 690) ORDER BY k
-- name: not exists
SELECT k FROM dim x WHERE NOT EXISTS (SELECT * FROM plain p WHERE p.k = x.k) ORDER BY k
-- name: scalar subquery
SELECT id, n FROM plain WHERE n = (SELECT max(n) FROM plain) ORDER BY id
-- name: correlated scalar subquery
SELECT x.k, (SELECT count(*) FROM plain p WHERE p.k = x.k) AS number FROM dim x ORDER BY x.k
-- name: compared with an average
SELECT id FROM plain p WHERE n > (SELECT avg(n) FROM plain o WHERE o.k = p.k) ORDER BY id
-- name: compared with a part of an average
SELECT id FROM plain p WHERE n < (SELECT 0.2 * avg(n) FROM plain o WHERE o.k = p.k) ORDER BY id
-- name: lateral
SELECT x.k, y.id FROM dim x CROSS JOIN LATERAL (SELECT p.id FROM plain p WHERE p.k = x.k ORDER BY p.id DESC LIMIT 2) y ORDER BY 1, 2
-- name: left lateral
SELECT x.k, y.total FROM dim x LEFT JOIN LATERAL (SELECT sum(p.n) AS total FROM plain p WHERE p.k = x.k) y ON true ORDER BY 1
-- name: with
WITH big AS (SELECT * FROM plain WHERE n > 100) SELECT k, count(*) FROM big GROUP BY k ORDER BY k
-- name: with twice
WITH a AS (SELECT k, sum(n) AS s FROM plain GROUP BY k), b AS (SELECT max(s) AS top FROM a) SELECT a.k FROM a, b WHERE a.s = b.top
-- name: with materialized
WITH a AS MATERIALIZED (SELECT k FROM plain) SELECT count(*) FROM a
-- name: union all
SELECT k FROM dim UNION ALL SELECT k FROM plain WHERE id < 5 ORDER BY 1
-- name: union
SELECT k FROM dim UNION SELECT i FROM plain ORDER BY k
-- name: intersect
SELECT k FROM dim INTERSECT SELECT i FROM plain ORDER BY 1
-- name: except
SELECT k FROM dim EXCEPT SELECT k FROM plain ORDER BY 1
-- name: except all
SELECT k FROM plain EXCEPT ALL SELECT k FROM dim ORDER BY 1
-- name: union of literals
SELECT 'plain' AS what, count(*) FROM plain UNION ALL SELECT 'dim', count(*) FROM dim ORDER BY 1
-- name: values joined
SELECT v.a, x.name FROM (VALUES (1, 'x'), (2, 'y')) AS v (a, b) JOIN dim x ON x.k = v.a ORDER BY 1
-- name: row number
SELECT id, row_number() OVER (PARTITION BY k ORDER BY id) FROM plain ORDER BY id
-- name: ranks
SELECT id, rank() OVER (ORDER BY k), dense_rank() OVER (ORDER BY k) FROM plain ORDER BY id
-- name: lag and lead
SELECT id, lag(i) OVER (ORDER BY id), lead(i, 2) OVER (ORDER BY id), lag(i, 1, 0) OVER (ORDER BY id) FROM plain ORDER BY id
-- name: running sum
SELECT id, sum(n) OVER (ORDER BY id), count(*) OVER (PARTITION BY k ORDER BY id) FROM plain ORDER BY id
-- name: window frame
SELECT id, sum(i) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM plain ORDER BY id
-- name: first and last value
SELECT id, first_value(n) OVER (PARTITION BY k ORDER BY id), last_value(id) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM plain ORDER BY id
-- name: named window
SELECT id, max(i) OVER w, min(i) OVER w FROM plain WINDOW w AS (PARTITION BY k) ORDER BY id
-- name: window over groups
SELECT k, sum(n), rank() OVER (ORDER BY sum(n) DESC) FROM plain GROUP BY k ORDER BY k
-- name: ntile
SELECT id, ntile(4) OVER (ORDER BY id) FROM plain ORDER BY id
-- name: window filter
SELECT id, count(*) FILTER (WHERE ok) OVER (PARTITION BY k) FROM plain ORDER BY id
-- name: newest row of each group
SELECT * FROM (SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS r FROM plain) y WHERE r = 1 ORDER BY k
-- name: nasty integers
SELECT id, i2, i4, i8 FROM nasty ORDER BY i8, id
-- name: nasty floats
SELECT id, f4, f8 FROM nasty ORDER BY f8 DESC, f4, id
-- name: nasty numerics
SELECT id, n0, n2, n6, nw FROM nasty ORDER BY nw, id
-- name: nasty texts
SELECT id, t, vc, c5, c9 FROM nasty ORDER BY vc, id
-- name: nasty moments
SELECT id, d, tm, ts, tz FROM nasty ORDER BY ts, id
-- name: nasty others
SELECT id, b, u, by, j, js, a4, e, iv, nu FROM nasty ORDER BY id
-- name: uuid equality
SELECT id FROM nasty WHERE u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'
-- name: uuid order
SELECT id FROM nasty WHERE u > 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12' ORDER BY u
-- name: group by uuid and enum
SELECT u, count(DISTINCT e) FROM nasty GROUP BY u ORDER BY 1
-- name: a label of an enum
SELECT id FROM nasty WHERE e = 'ok' OR e IN ('sad', 'happy') ORDER BY id
-- name: no label of an enum
SELECT id, e <> 'ok', CASE e WHEN 'sad' THEN 1 END, e IS DISTINCT FROM 'ok' FROM nasty ORDER BY id
-- name: enum order
SELECT e, count(*) FROM nasty GROUP BY e ORDER BY e DESC
-- name: enum order and a text
SELECT id FROM nasty ORDER BY e NULLS FIRST, vc, id LIMIT 9
-- name: enums beside an average
SELECT e, avg(i4) FROM nasty GROUP BY e HAVING e <> 'sad' ORDER BY e DESC
-- name: an enum that the source compares
SELECT id, e > 'sad', e FROM nasty ORDER BY id
-- name: an enum as text
SELECT id, e::text || '!', e::text LIKE 's%' FROM nasty WHERE e::text <> 'ok' ORDER BY id
-- name: text by its bytes where that is written down
SELECT t COLLATE "C" AS x, count(*), min(s COLLATE "C") FROM plain WHERE s COLLATE "C" < t GROUP BY x ORDER BY x
-- name: numbers that may have no rows
SELECT g, count(p.id), sum(p.n) FROM generate_series(1, 10) AS g LEFT JOIN plain p ON p.k = g GROUP BY g ORDER BY g
-- name: numbers downwards, and none
SELECT s.x, d.name FROM generate_series(9, 0, -2) AS s (x) LEFT JOIN dim d ON d.k = s.x LEFT JOIN generate_series(5, 1) e ON true ORDER BY 1
-- name: days that may have no rows
SELECT day::date, count(p.id), sum(n) FROM generate_series(timestamp '2023-12-25', '2024-02-01', '1 day') AS day LEFT JOIN plain p ON p.ts >= day AND p.ts < day + interval '1 day' GROUP BY day ORDER BY day
-- name: weeks of dates, and months
SELECT w::date, m, count(*) FROM generate_series(date '2024-01-01', date '2024-03-01', interval '1 week') AS w JOIN generate_series(timestamp '2024-01-28', timestamp '2024-12-01', '1 month') AS m ON w < m JOIN plain p ON p.d = w::date GROUP BY w, m ORDER BY w, m
-- name: infinite dates
SELECT id FROM nasty WHERE d > '2000-01-01' ORDER BY d, id
-- name: not a number is largest
SELECT id FROM nasty WHERE f8 > 1 ORDER BY f8, id
-- name: negative zero equals zero
SELECT id FROM nasty WHERE f8 = 0 ORDER BY id
-- name: chars of different lengths
SELECT id FROM nasty WHERE c5 = c9 ORDER BY id
-- name: char against text
SELECT id FROM nasty WHERE c5 = t ORDER BY id
-- name: time order
SELECT id, tm FROM nasty WHERE tm > '07:00' ORDER BY tm, id
-- name: bytes equality
SELECT a.id, b.id FROM nasty a JOIN nasty b ON a.by = b.by AND a.id < b.id ORDER BY 1
-- name: averages finished at the source
SELECT k, avg(n), avg(i), avg(l) FROM plain GROUP BY k ORDER BY k
-- name: quotient finished at the source
SELECT k, sum(n) / count(*), 100.0 * sum(CASE WHEN ok THEN n ELSE 0 END) / sum(n) FROM plain GROUP BY k ORDER BY k
-- name: formatting finished at the source
SELECT to_char(date_trunc('month', ts), 'Mon YYYY'), count(*) FROM plain GROUP BY date_trunc('month', ts) ORDER BY date_trunc('month', ts)
-- name: json finished at the source
SELECT id, j ->> 'a', j -> 'b' FROM m ORDER BY id LIMIT 5
-- name: products that may have too many digits
SELECT id, n * n * n * 1.5, l * n * 1000.5 * i FROM plain WHERE l * n * 1000.5 * i <> 0.5 ORDER BY id
-- name: row quotients finished at the source
SELECT id, n / 3, n / q, i / 2.0 FROM plain ORDER BY id
-- name: window average finished at the source
SELECT id, avg(n) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM plain ORDER BY id
-- name: having with formatting finished at the source
SELECT k, count(*) FROM plain GROUP BY k HAVING to_char(max(ts), 'YYYY') = '2024' ORDER BY k
-- name: distinct formatting finished at the source
SELECT DISTINCT to_char(ts, 'Dy') FROM plain ORDER BY 1
-- name: difference of moments finished at the source
SELECT k, max(ts) - min(ts), age(max(ts), min(ts)) FROM plain GROUP BY k ORDER BY k
-- name: power finished at the source
SELECT id, power(f, 2), exp(r), ln(q) FROM plain ORDER BY id
-- name: text computed from a column is ordered by its collation
SELECT substring(t from 1 for 2) AS x, count(*) FROM plain GROUP BY x ORDER BY x
-- name: negative zero as a literal
SELECT id, r * CAST('-0' AS float8) AS z, CAST('-0' AS float8) AS y FROM plain ORDER BY id
-- name: order by a case of constants
SELECT CASE WHEN k > 2 THEN 1 WHEN ok THEN 0 END AS c FROM plain ORDER BY c
-- name: real in one number, in reals, and in an array
SELECT id, r IN (0.1), r IN ('0.25', '0.5'), r = ANY (ARRAY[0.25, 0.5]) FROM plain ORDER BY id
-- name: days added to infinite dates and to NULL
SELECT a.id, b.id, a.d + b.i4, a.d - b.i2 FROM nasty a JOIN nasty b ON b.id IN (1, 2, 13) WHERE a.id > 6 ORDER BY a.id, b.id
-- name: a month as text
SELECT to_char(ts, 'YYYY-MM') AS m, count(*), sum(n) FROM plain GROUP BY m ORDER BY m
-- name: every proven pattern
SELECT id, to_char(ts, 'YYYY IYYY YY MM DDD DD ID IW HH24 HH12 HH MI SS US Q'), to_char(ts, 'FMMM/FMDD FMHH24 FMYYYY'), to_char(ts, 'Month|FMMonth|MONTH|month|Mon|MON|mon'), to_char(d, 'Day|FMDay|DAY|day|Dy|DY|dy') FROM plain ORDER BY id
-- name: patterns that begin like another one
SELECT id, to_char(ts, 'IDDD'), to_char(ts, 'SSSS'), to_char(ts, 'FMUS.FMSS'), to_char(ts, 'YYYY"{}"MM"{0}"'), to_char(ts, 'ID DD IDDY') FROM plain ORDER BY id
-- name: names of days in their collation's order
SELECT to_char(ts, 'Dy') AS w, count(*) FROM plain GROUP BY w ORDER BY w
-- name: the least month as text
SELECT k, min(to_char(ts, 'YYYY-MM')), max(to_char(d, 'YYYY-MM-DD')) FROM plain GROUP BY k ORDER BY k
-- name: a text that begins with a year
SELECT to_char(ts, 'YYYY') || '-' || t AS x, count(*) FROM plain GROUP BY x ORDER BY x
-- name: bins of a timestamp
SELECT date_bin('15 min', ts, timestamp '2001-01-01') AS b, count(*) FROM plain GROUP BY b ORDER BY b
-- name: bins of a timestamptz and of a date
SELECT id, date_bin(interval '1 day 3 hours', tz, '2001-01-01'), date_bin('7 days', d, '1999-01-01') FROM plain ORDER BY id
-- name: a key of a document as a group
SELECT j ->> 'a' AS a, j -> 'b' ->> 'c' AS c, count(*) FROM m GROUP BY 1, 2 ORDER BY 1, 2
-- name: conditions on a document
SELECT id FROM m WHERE j ->> 'a' LIKE '1%' AND (j ->> 'a')::int > 12 ORDER BY id
-- name: documents of every kind
SELECT id, j ->> 'a', j ->> 'q', j ->> 'k' FROM nasty ORDER BY id
-- name: any of an array's literal
SELECT id, i = ANY ('{1,2,3,NULL}'), t <> ALL ('{"b B1", n D3,"q\"\\"}'), d = ANY ('{2024-01-01}'::date[]) FROM plain WHERE k = ANY ('{1,2}') ORDER BY id
-- name: any of an empty array
SELECT id, i = ANY ('{}'), i <> ALL ('{}') FROM plain ORDER BY id
-- name: labels in an array's literal
SELECT id FROM nasty WHERE e = ANY ('{sad,ok}') ORDER BY id
-- name: any of an array of literals beside char
SELECT id, c = ANY (ARRAY['bc ', 'cde']), c <> ALL (ARRAY['a ', c]), s = ANY (ARRAY['N', 'So']) FROM plain WHERE c = ANY (ARRAY['bc  ', 'cde', 'd', NULL]) ORDER BY id
-- name: difference of timestamps
SELECT id, ts - timestamp '2024-01-05 11:00:00.5', tz - ts::timestamptz, d - ts FROM plain ORDER BY id
-- name: difference of timestamps sums and averages
SELECT k, sum(ts - tz), avg(ts - tz), avg(tz - ts) FILTER (WHERE ok), sum(ts - ts) FROM plain GROUP BY k ORDER BY k
-- name: difference of timestamps without rows
SELECT sum(ts - tz), avg(ts - tz), min(ts - tz), count(ts - tz) FROM plain WHERE id < 0
-- name: difference of timestamps extremes
SELECT k, min(ts - tz), max(ts - tz), count(DISTINCT ts - tz) FROM plain GROUP BY k ORDER BY max(ts - tz) DESC, k
-- name: difference of timestamps compared
SELECT count(*) FILTER (WHERE tz - ts > interval '1 mon 2 days'), count(*) FILTER (WHERE ts - tz < '-3 days -4 hours'), count(*) FILTER (WHERE ts - tz BETWEEN '-90 days' AND interval '0 days'), count(*) FILTER (WHERE tz - ts = ts - tz) FROM plain
-- name: difference of timestamps grouped and ordered
SELECT ts - tz AS late, count(*) FROM plain GROUP BY ts - tz ORDER BY late DESC LIMIT 20
-- name: difference of timestamps extracted
SELECT id, extract(epoch FROM ts - tz), extract(day FROM tz - ts), extract(hours FROM ts - tz), extract(minute FROM ts - tz), extract(second FROM ts - tz) FROM plain ORDER BY id
-- name: difference of timestamps parts
SELECT id, date_part('epoch', ts - tz), date_part('day', ts - tz), date_part('second', ts - tz) FROM plain ORDER BY id
-- name: difference of timestamps in hours
SELECT k, round(avg(extract(epoch FROM tz - ts) / 3600), 2), max(extract(epoch FROM tz - ts)) FROM plain GROUP BY k ORDER BY k
-- name: difference of timestamps of a subquery
SELECT k, avg(w), extract(epoch FROM avg(w)) FROM (SELECT k, tz - ts AS w FROM plain) x WHERE w > '2 days' GROUP BY k ORDER BY k
-- name: difference of timestamps in a window
SELECT id, tz - lag(tz) OVER (ORDER BY tz), sum(tz - ts) OVER (PARTITION BY k ORDER BY id) FROM plain ORDER BY id
-- name: seconds as floats
SELECT id, date_part('second', ts), date_part('epoch', ts), date_part('epoch', tz), date_part('epoch', d) FROM plain ORDER BY id
-- name: local times of regions
SELECT id, tz AT TIME ZONE 'Europe/Berlin', tz AT TIME ZONE 'America/St_Johns', timezone('Asia/Kolkata', tz), tz AT TIME ZONE 'UTC' FROM plain ORDER BY id
-- name: instants of local times
SELECT id, ts AT TIME ZONE 'Europe/Berlin', ts AT TIME ZONE 'UTC' AT TIME ZONE 'Australia/Lord_Howe', d AT TIME ZONE 'Europe/Berlin' FROM plain ORDER BY id
-- name: days of a region
SELECT (tz AT TIME ZONE 'America/New_York')::date AS x, extract(hour FROM tz AT TIME ZONE 'America/New_York') AS h, count(*) FROM plain GROUP BY x, h ORDER BY x, h
-- name: truncated in a region
SELECT id, date_trunc('day', tz, 'Europe/Berlin'), date_trunc('hour', tz, 'Asia/Kolkata'), date_trunc('week', tz, 'America/New_York'), date_trunc('month', tz, 'UTC'), date_trunc('minute', tz, 'Europe/London') FROM plain ORDER BY id
-- name: infinite local times
SELECT id, tz AT TIME ZONE 'Europe/Berlin', ts AT TIME ZONE 'Europe/Berlin' FROM nasty WHERE id NOT IN (4, 5, 6) ORDER BY id
-- name: moments of the session
SELECT id, tz::date, tz::timestamp, ts::timestamptz, date_trunc('day', tz), date_trunc('hour', tz), extract(hour FROM tz), date_part('dow', tz), to_char(tz, 'YYYY-MM-DD HH24:MI') FROM plain ORDER BY id
-- name: dates of a day that a zone skips
SELECT id, to_char(d - 10593, 'YYYY-MM-DD'), date_trunc('year', d - 10593), date_trunc('month', d - 10593), date_trunc('hour', d) FROM plain ORDER BY id
-- name: a timestamptz beside local times
SELECT id, tz > '2024-03-31 02:30', tz = ts, tz < d, tz IN ('2024-01-01', '2024-03-10 08:00+00'), tz BETWEEN date '2024-02-01' AND timestamp '2024-10-27 02:30' FROM plain ORDER BY id
-- name: bins from the session's midnight
SELECT date_bin('1 day', tz, '2000-01-01') AS b, count(*) FROM plain GROUP BY b ORDER BY b
-- name: documents built of aggregates
SELECT k, json_build_object('rows', count(*), 'sum', sum(n), 'first', min(d), 'late', max(ts), 'none', NULL) AS j, jsonb_build_array(k, avg(n), 'x', bool_or(ok)) AS a FROM plain GROUP BY k ORDER BY k
-- name: documents built of columns
SELECT id, json_build_array(i, l, r, f, n, ok, t, s, c, d, ts, tz), jsonb_build_object('t', t, 'n', n, 'j', id) FROM plain ORDER BY id
-- name: intervals with a time of day
SELECT id, ts + interval '01:30:00.5', tz - interval '1 day -2:15', ts + '1 mon 2 days 03:04:05'::interval, d + interval '90.25 seconds', tz + interval '250 milliseconds', ts - interval '-0:00:07.000001' FROM plain ORDER BY id
-- name: a name behind an interval is no unit
SELECT id, ts + interval '5' week, ts - interval '5' days, ts + interval '7' "hour", ts + interval '7' hour, ts + interval '7' mon FROM plain ORDER BY id
-- name: durations beside a time of day
SELECT count(*) FROM plain WHERE ts - tz > interval '-80 days 02:30' AND tz - ts < '300 days 1.5 sec'
-- name: percentiles between two values
SELECT k, percentile_cont(0.9) WITHIN GROUP (ORDER BY f), percentile_cont(0.25) WITHIN GROUP (ORDER BY i DESC), percentile_cont(0.123) WITHIN GROUP (ORDER BY n) FILTER (WHERE ok), percentile_cont(0.77) WITHIN GROUP (ORDER BY l) FROM plain GROUP BY k ORDER BY k
-- name: percentiles that are values
SELECT k, percentile_disc(0.5) WITHIN GROUP (ORDER BY t), percentile_disc(0) WITHIN GROUP (ORDER BY d), percentile_disc(1) WITHIN GROUP (ORDER BY tz DESC), percentile_disc(0.7) WITHIN GROUP (ORDER BY s), percentile_disc(0.33) WITHIN GROUP (ORDER BY n) FROM plain GROUP BY k ORDER BY k
-- name: percentiles of odd floats
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f8), percentile_disc(0.9) WITHIN GROUP (ORDER BY f8), percentile_cont(0.95) WITHIN GROUP (ORDER BY f8 DESC), percentile_cont(0.4) WITHIN GROUP (ORDER BY f4) FROM nasty WHERE id <> 14
-- name: percentiles of odd moments and numbers
SELECT percentile_disc(0.1) WITHIN GROUP (ORDER BY d), percentile_disc(0.9) WITHIN GROUP (ORDER BY ts), percentile_disc(0.5) WITHIN GROUP (ORDER BY nw), percentile_cont(0.3) WITHIN GROUP (ORDER BY i8) FROM nasty
-- name: percentiles of nothing
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f8), percentile_disc(0.5) WITHIN GROUP (ORDER BY d), mode() WITHIN GROUP (ORDER BY t) FROM nasty WHERE id < 0
-- name: a percentile in HAVING and rounded
SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY f)::numeric, 2) AS p, k FROM plain GROUP BY k HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY f) > 0 ORDER BY p, k
-- name: the most frequent value
SELECT k, mode() WITHIN GROUP (ORDER BY i), mode() WITHIN GROUP (ORDER BY i DESC) FILTER (WHERE ok), mode() WITHIN GROUP (ORDER BY d DESC), mode() WITHIN GROUP (ORDER BY t), mode() WITHIN GROUP (ORDER BY r) FROM plain GROUP BY k ORDER BY k
-- name: the most frequent odd value
SELECT mode() WITHIN GROUP (ORDER BY f8), mode() WITHIN GROUP (ORDER BY tz), mode() WITHIN GROUP (ORDER BY n6) FROM nasty WHERE id <> 14
-- name: percentiles of grouping sets
SELECT k, ok, percentile_cont(0.5) WITHIN GROUP (ORDER BY id), percentile_disc(0.99) WITHIN GROUP (ORDER BY id) FROM plain GROUP BY GROUPING SETS ((k), (ok), ()) ORDER BY 1, 2, 3, 4
-- name: a filter on a choice of constants or NULL
SELECT id FROM plain WHERE (CASE WHEN ok THEN 'O' END) IN ('East', 'O') AND (CASE WHEN k > 5 THEN NULL ELSE 'big' END) LIKE 'b%' ORDER BY id
-- name: filters that all texts between the least and the greatest meet
SELECT k FROM dim WHERE nullif(name, 'dim 3') LIKE 'dim%' AND starts_with(coalesce(nullif(name, 'dim 4'), NULL), 'd') ORDER BY k
-- name: filters on a choice of what a subquery gives as a constant
SELECT id FROM (SELECT id, k, ok, 'a' AS x, to_char(date '2024-05-01', 'Mon') AS y FROM plain) q WHERE (CASE WHEN ok THEN x END) IN ('a', 'b') AND (CASE WHEN ok THEN y END) LIKE 'M%' ORDER BY id
-- name: nullif of a constant
SELECT id, nullif(text 'North', s) FROM plain WHERE nullif(text 'North', s) LIKE 'N%' ORDER BY id
-- name: a filter on a choice below
SELECT id, x FROM (SELECT id, CASE WHEN k > 3 THEN 'big' WHEN k > 5 THEN NULL WHEN k = 2 THEN 'mid' END AS x FROM plain) q WHERE x IN ('big', 'mid') ORDER BY id
