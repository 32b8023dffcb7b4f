select date_trunc('hour',ts) h, count(*) from m group by 1 order by 1
select date_trunc('week',ts) h, count(*) from m group by 1 order by 1
select date_trunc('day',tz) h, count(*) from m group by 1 order by 1
select date_trunc('day',tz,'America/New_York') from m order by id limit 3
select date_bin('15 minutes', ts, timestamp '2001-01-01') b, sum(v) from m group by 1 order by 1
select g from generate_series(1,5) g
select g::date from generate_series(date '2024-01-01', date '2024-01-05', interval '1 day') g
select g from generate_series(timestamp '2024-01-01', timestamp '2024-01-02', '6 hours') as g order by 1
select generate_series(1,3), id from m where id=1
select j->>'a', j->'b'->>'c', j#>>'{b,c}' from m order by id limit 2
select j->'l'->>1, j->'l'->1 from m order by id limit 2
select j @> '{"a":5}' from m order by id limit 6
select j ? 'a' from m limit 2
select jsonb_array_length(j->'l'), jsonb_typeof(j->'b') from m limit 1
select e.value from m, jsonb_array_elements(j->'l') e(value) where id=1 order by 1
select key, value from m, jsonb_each_text(j->'b') where id=1
select jsonb_build_object('x',id,'y',dev) from m order by id limit 1
select row_to_json(x) from (select id,dev from m order by id limit 1) x
select json_agg(id order by id) from m where id<4
select jsonb_object_agg(dev,id) from m where id in (1,2)
select id from m where dev ilike 'dev-1' order by id
select id from m where dev like 'Dev\_1' order by id
select id from m where dev ~ '^Dev-[12]$' order by id
select id from m where dev ~* 'dev-3' order by id
select id from m where dev !~ '1' order by id
select distinct on (dev) dev, id, v from m where dev is not null order by dev, id desc
select dev from m order by dev, id limit 10
select dev from m order by dev desc, id limit 10
select a.id, x.s from m a, lateral (select sum(b.v) s from m b where b.id<=a.id) x where a.id<5 order by 1
select a.id, x.id from m a left join lateral (select b.id from m b where b.dev=a.dev and b.id>a.id order by b.id limit 1) x on true where a.id<8 order by 1
select count(*) filter (where ok), sum(v) filter (where not ok) from m
select percentile_cont(0.5) within group (order by v), percentile_disc(0.9) within group (order by v) from m
select percentile_cont(array[0.25,0.75]) within group (order by v) from m
select mode() within group (order by dev) from m
select to_char(ts,'YYYY-MM-DD HH24:MI:SS') from m order by id limit 2
select to_char(ts,'Mon DD, YYYY Day') from m order by id limit 2
select to_char(n,'FM999990.00'), to_char(id,'000') from m order by id limit 2
select to_date('2024-03-05','YYYY-MM-DD'), to_timestamp('2024-03-05 10:11','YYYY-MM-DD HH24:MI')
select to_timestamp(1700000000)
select tags[1], array_length(tags,1), cardinality(tags) from m order by id limit 2
select id from m where 't1' = any(tags) order by id limit 3
select id from m where tags @> array['t1'] order by id limit 3
select id from m where tags && array['t2','q'] order by id limit 3
select array_agg(id order by id desc) from m where id<4
select unnest(tags), id from m order by id, 1 limit 4
select t, o from m, unnest(tags) with ordinality u(t,o) where id=1
select array_to_string(tags,','), array_position(tags,'z'), array_append(tags,'q') from m where id=1
select string_to_array('a,b,c',',')
select tags[1:1] from m where id=1
select ts + interval '1 month 2 days 03:00' from m order by id limit 2
select ts - lag(ts) over (order by id) from m order by id limit 3
select extract(epoch from ts - timestamp '2024-01-01') from m order by id limit 2
select extract(dow from ts), extract(isodow from ts), extract(doy from ts), date_part('week',ts) from m order by id limit 2
select extract(epoch from ts)::bigint from m order by id limit 2
select date '2024-03-01' - date '2024-02-01', date '2024-01-31' + 1
select age(timestamp '2024-03-15', timestamp '2023-01-31')
select justify_hours(interval '50 hours')
select (interval '1 day 3 hours' * 2)::text
select make_date(2024,2,29), make_interval(days => 3)::text
select regexp_replace(dev,'(\d)','<\1>','g') from m where id=1
select regexp_replace('aXbXc','X','-')
select regexp_match('foo-12','(\w+)-(\d+)')
select (regexp_matches('a1b2','\d','g'))[1]
select substring('foobar' from 'o(.)b'), substring('foobar' from 2 for 3)
select regexp_split_to_array('a,b;c','[,;]')
select split_part('a.b.c','.',2), split_part('a.b.c','.',-1)
select string_agg(dev,',' order by id) from m where id<5
select string_agg(distinct dev,',' order by dev) from m
select 'm'::regclass::text
select now() is not null, current_timestamp is not null, current_date is not null
select pg_typeof(now())::text
select ts at time zone 'America/New_York' from m order by id limit 2
select tz at time zone 'America/New_York' from m order by id limit 2
select (tz at time zone 'UTC')::date from m order by id limit 1
select id, avg(v) over (order by id rows between 2 preceding and current row) from m order by id limit 5
select id, sum(v) over (order by ts range between interval '1 hour' preceding and current row) from m order by id limit 5
select id, sum(v) over w from m window w as (partition by dev order by id groups between 1 preceding and current row) order by id limit 5
select id, first_value(v) over w, last_value(v) over w, nth_value(v,2) over w, ntile(4) over w from m window w as (partition by dev order by id) order by id limit 6
select dev, ok, sum(id), grouping(dev,ok) from m group by grouping sets ((dev,ok),(dev),()) order by 1,2,4,3
select dev, ok, count(*) from m group by cube(dev,ok) order by 1,2,3
select dev, count(*) from m group by rollup(dev) order by 1,2
with recursive t(n) as (select 1 union all select n+1 from t where n<5) select sum(n) from t
with recursive t as (select 1 n, array[1] p union all select n+1, p||(n+1) from t where n<3) select * from t order by n
with x as materialized (select * from m) select count(*) from x
select 7/2, -7/2, 7%3, -7%3, 7.0/2, 1/3.0
select sum(id)/count(*) from m
select avg(id), sum(id), stddev(v), variance(v), stddev_pop(v) from m
select round(2.5), round(-2.5), round(2.567,2), round(2.5::float8), trunc(2.9)
select 2.5::int, 3.5::int, -2.5::int, 2.5::float8::int, 3.5::float8::int
select 2^10, 5!=4, |/16, @ -5
select n*1.1 from m order by id limit 2
select n/3 from m order by id limit 2
select sum(n), avg(n) from m
select 1/0.0
select 1/0
select 'NaN'::float8 > 1, 'infinity'::float8
select coalesce(null,1), nullif(1,1), greatest(1,null,3), least(2,null)
select 'a'||null, concat('a',null,'b'), concat_ws('-','a',null,'b')
select length('héé'), octet_length('héé'), upper('é'), initcap('foo bar'), lpad('1',3,'0'), reverse('abc'), repeat('x',3)
select position('b' in 'abc'), strpos('abc','c'), left('abc',-1), right('abc',2), overlay('abcdef' placing 'ZZ' from 2 for 2)
select trim(both 'x' from 'xxaxx'), btrim('  a '), ltrim('xxa','x'), translate('abc','ab','xy'), chr(65), ascii('A')
select md5('a'), encode('abc'::bytea,'hex'), encode('abc'::bytea,'base64')
select format('%s-%s','a',1)
select quote_literal('a''b'), quote_ident('Ab c')
select cast('12' as int), '3.7'::numeric::int, 'true'::boolean, 't'::bool, 1::bool
select '2024-01-01'::date::timestamp, '2024-01-01 10:00'::timestamp::time, '2024-01-01 10:00'::timestamp::date
select ts::text, tz::text, v::text, n::text, ok::text from m where id=4
select (1.0::float8)::text, (1e20::float8)::text, 0.1::float4::text, 100::float8 || 'x'
select array[1,2]::text, row(1,'a')::text
select id from m where (id, dev) = (1,'Dev-1')
select id from m where id in (values (1),(2)) order by 1
select id from m where id between symmetric 5 and 3 order by id
select id from m tablesample bernoulli(100) order by id limit 2
select id from m order by v desc nulls last, id limit 3 offset 1
select id from m order by id fetch first 2 rows only
select id from m where dev is distinct from 'Dev-1' and id<5 order by id
select id, case dev when 'Dev-1' then 'one' else 'other' end from m where id<3 order by id
select * from (values (1,'a'),(2,'b')) v(x,y) order by x
select exists(select 1 from m where id=1), id = all(array[1]), id <> all(array[2]) from m where id=1
select width_bucket(v,0,100,5) from m order by id limit 3
SELECT g, p.id FROM generate_series(1, 9223372036854775807) g JOIN plain p ON p.id = g
SELECT g, p.id FROM generate_series(1, 5, 0) g JOIN plain p ON p.id = g
SELECT g, p.id FROM generate_series(1::int2, 5::int8) g JOIN plain p ON p.id = g
SELECT g, p.id FROM generate_series(1.5, 4, 0.5) g JOIN plain p ON p.id > g
SELECT g, p.id FROM generate_series(NULL::int, 4) g RIGHT JOIN plain p ON p.id = g
SELECT g, p.id FROM generate_series(timestamp 'infinity', '2024-01-01', '1 day') g RIGHT JOIN plain p ON p.ts > g
SELECT g, p.id FROM generate_series(timestamp '2024-01-01', 'infinity', '1 year') g JOIN plain p ON p.ts > g LIMIT 3
SELECT g, p.id FROM generate_series(timestamp '2024-01-31', '2024-06-30', '1 month') g JOIN plain p ON p.ts > g
SELECT g, p.id FROM generate_series(timestamptz '2024-03-30', '2024-04-02', '1 day') g JOIN plain p ON p.tz > g
SELECT g, p.id FROM generate_series(date '2024-03-30', '2024-04-02', '-1 day') g RIGHT JOIN plain p ON p.tz > g
SELECT g.*, o FROM generate_series(1, 3) WITH ORDINALITY AS g (x, o) JOIN plain p ON p.id = g.x
SELECT p.id, g FROM plain p, generate_series(1, p.k) g
SELECT p.id, g FROM plain p, LATERAL generate_series(1, 2) g
SELECT p.id, generate_series(1, 2) FROM plain p
SELECT count(*) FROM plain WHERE k IN (SELECT x FROM generate_series(1, 3) x)
select corr(v,id), regr_slope(v,id), covar_pop(v,id) from m
select bool_and(ok), bool_or(ok), every(ok), bit_and(id) from m
select count(distinct dev), count(distinct (dev,ok)) from m
select "id" as "Id", dev "Dev Name" from m where id=1
select m.* from m where id=1 and ok is not true
select (m).id from m where id=1
select m from m where id=-1
select id from m where ts >= '2024-01-01' and ts < '2024-01-01'::timestamp + '1 hour' order by id
select id from m where ts::date = '2024-01-01' and ts::time > '23:00' order by id
select (ts, ts + interval '1 hour') overlaps (timestamp '2024-01-01 01:00', timestamp '2024-01-01 02:00') from m order by id limit 2
select date_part('year', current_date) > 2000, localtimestamp is not null
select ceil(v/10)*10 b, count(*) from m group by b order by b limit 3
select floor(extract(epoch from ts)/3600)*3600 from m order by id limit 1
select id%2 as k, array_agg(distinct dev order by dev) from m where dev is not null group by k order by k
select sum(v) from m having count(*)>1
select id from m except select id from m where id>2 order by 1
select id from m intersect all select 1
select 'abc' similar to '%(b|d)%', 'abc' ~~ 'a%', 'ABC' ~~* 'a%'
select U&'\0041', E'a\tb', $$dollar$$
select b'101'::text, x'1F'::int
select gen_random_uuid() is not null, random() < 1
select setseed(0.5)
select txid_current() is not null
select pg_size_pretty(1048576::bigint)
select count(*) from m where v = any(array[1.25,2.5])
select max(ts) - min(ts) from m
select sum(ts - timestamp '2024-01-01') from m where id<4
select avg(ts - timestamp '2024-01-01') from m where id<4
select to_char(interval '90 minutes','HH24:MI')
select num_nonnulls(1,null,2)
select timestamp '2024-01-31' + interval '1 month', timestamptz '2024-03-10 12:00+00' + interval '1 day'
select timezone('UTC', tz) from m where id=1
select time '10:00' + interval '2 hours'
select int4range(1,5) @> 3
select starts_with('abc','ab'), 'abc' ^@ 'ab'
select bit_length('abc'), to_hex(255), gcd(12,18), div(7,2), mod(7,3), sign(-2), power(2,3), log(100), ln(1), cbrt(27)
select date '2024-01-01', k, count(*) from plain group by cube (date '2024-01-01', k) order by 2, 3
select length(md5('')), count(*) from plain group by rollup (length(md5('')))
select ts - interval '1 day ago' from m order by id limit 2
select ts + interval '1 day 02:00' from m order by id limit 2
select ts + interval '1 day 5 hours' day from m order by id limit 2
select ts + interval '36' hour from m order by id limit 2
select count(*) from m where ts < timestamp '2024-01-02' - interval '1 hour ago'
select ts + interval '1' day + interval '2 hours' from m order by id limit 2
select id from nasty where f4 in (0.1, -0.5)
select id from nasty where f4 in (0.1)
select id from nasty where f4 not in (0.1, 16777216, null)
select id from nasty where f4 in (16777217, 3)
select id from nasty where f4 = any (array[0.1, -0.5])
select id from nasty where f4 in ('0.1', '-0.5')
SELECT id, to_char(ts, 'YYYY-MM-DD IYYY-IW DDD') FROM nasty WHERE id NOT IN (4, 5, 6, 7, 8)
SELECT id, to_char(ts, 'YYYY-MM-DD HH24:MI:SS.US') FROM nasty
SELECT id, to_char(d, 'YYYY-MM-DD HH24') FROM nasty
SELECT to_char(tz, 'Day, DD Month YYYY'), count(*) FROM nasty GROUP BY 1
SELECT to_char(ts, 'YYYY-MMth'), to_char(ts, 'Yyyy') FROM plain
SELECT to_char(ts, 'DD.MM.YYYY') AS x FROM plain WHERE to_char(ts, 'MM') > '02' ORDER BY x
SELECT id, date_bin('7 days', ts, '1990-01-01') FROM nasty
SELECT id, date_bin('7 days', ts, '0001-01-01') FROM nasty WHERE id <> 6
SELECT id, date_bin('-7 days', ts, '1990-01-01') FROM nasty WHERE id = 9
SELECT id, date_bin('1 month', ts, '1990-01-01') FROM nasty WHERE id = 9
SELECT j ->> 'a', count(*) FROM nasty GROUP BY 1
SELECT DISTINCT j ->> 'q' FROM nasty WHERE id <> 9
SELECT id FROM nasty WHERE j ->> 'a' = '2'
SELECT id FROM nasty WHERE js ->> 'a' = '2'
SELECT id FROM nasty WHERE t::int = 1
SELECT id FROM nasty WHERE t = ANY ('{"",a,NULL,"null"}')
SELECT id FROM nasty WHERE c5 = ANY ('{a,ab}') OR vc = ANY ('{a }')
SELECT id FROM nasty WHERE f8 = ANY ('{1.5,2.5}') OR n2 <> ALL ('{7.07,-1}')
SELECT id FROM nasty WHERE i4 = ANY ('{{1,2},{3,4}}')
select id, ts - timestamp '2000-01-01' from nasty order by id
select id, ts - timestamp '2000-01-01' from nasty where isfinite(ts) order by id
select id, tz - timestamptz '2020-05-05 01:02:03.456789+00' from nasty where id in (1,2,3,9,10,11,12,14,15) order by id
select id, extract(epoch from ts - timestamp '2000-01-01') from nasty where isfinite(ts) order by id
select sum(a.ts - b.ts), avg(a.ts - b.ts) from nasty a join nasty b on isfinite(a.ts) and isfinite(b.ts) and a.id <> 4
select max(ts - tz), min(ts - tz) from nasty where isfinite(ts)
select case when id = 1 then ts - tz else interval '1 day' end from nasty order by id
select coalesce(ts - tz, '1 day') from nasty order by id
select (ts - tz) + (ts - tz), (ts - tz) * 2, -(ts - tz) from m order by id
select ts - tz from m union select tz - ts from m
select array_agg(ts - tz) from m
select sum(ts - tz) from m order by sum(ts - tz)
select dev, sum(ts - tz) from m group by dev having sum(ts - tz) > interval '0' order by 2, 1
select date_part('second', ts) from nasty where isfinite(ts) order by id
select date_part('epoch', ts), date_part('epoch', tz) from nasty where isfinite(ts) order by id
select ts - d from nasty where isfinite(ts) order by id
select now() - ts > '1 day' from m order by id
select count(*) from m where now() - tz > interval '1 day'
select age(ts, tz) - (ts - tz) from m order by id
select id, date_part('epoch', ts) from nasty where isfinite(ts) order by id
SELECT id, tz AT TIME ZONE 'Europe/Berlin', ts AT TIME ZONE 'Europe/Berlin' FROM nasty
SELECT id, tz AT TIME ZONE 'CET', tz AT TIME ZONE 'EST', tz AT TIME ZONE 'europe/berlin', tz AT TIME ZONE 'GMT' FROM plain
SELECT id FROM plain WHERE tz AT TIME ZONE 'CET' > '2024-05-01'
SELECT id FROM plain WHERE tz AT TIME ZONE '+05:30' > '2024-05-01'
SELECT id FROM plain WHERE (tz AT TIME ZONE interval '2 hours') > '2024-05-01'
SELECT id, tz::date, tz::timestamp, ts::timestamptz, date_trunc('month', tz), d::timestamptz FROM nasty
SELECT id FROM nasty WHERE tz > ts OR tz = d
SELECT date_trunc('day', tz AT TIME ZONE 'Pacific/Apia'), count(*) FROM plain GROUP BY 1
SELECT date_trunc('decade', tz, 'Europe/Berlin') FROM plain
SELECT date_trunc('day', ts, 'Europe/Berlin') FROM plain
SELECT tz + interval '1 day', tz - interval '36 hours', tz + interval '1 month' FROM plain
select ts + interval(0) '1.5 sec' from m order by id
select ts + '1.5 sec'::interval(0), '1.5 sec'::interval(0) from m order by id
select ts + interval '1 day 25:00', ts + interval '-1 day +02:00', ts + interval '1:2:3' from m order by id
select ts + interval '12:60' from m order by id
select ts + interval '1:30 day' from m order by id
select ts + interval '02:00 1 day' from m order by id
select ts + interval '1.5 days' from m order by id
select ts + interval '1.25 sec 2 sec' from m order by id
select ts + interval '.5 sec' from m order by id
select ts + interval '1 02:03:04' from m order by id
select ts + interval '02:03:04.1234567' from m order by id
select ts - tz > '1 00:00' from m order by id
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f8), mode() WITHIN GROUP (ORDER BY f8) FROM nasty
SELECT percentile_cont(ARRAY[0.1, 0.5]) WITHIN GROUP (ORDER BY f) FROM plain
SELECT percentile_cont(1.5) WITHIN GROUP (ORDER BY f) FROM plain
SELECT percentile_cont(NULL) WITHIN GROUP (ORDER BY f) FROM plain
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY c), mode() WITHIN GROUP (ORDER BY c) FROM plain
SELECT mode() WITHIN GROUP (ORDER BY j), mode() WITHIN GROUP (ORDER BY e), mode() WITHIN GROUP (ORDER BY b) FROM nasty
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY iv), percentile_disc(0.5) WITHIN GROUP (ORDER BY iv) FROM nasty
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY nu), percentile_cont(0.5) WITHIN GROUP (ORDER BY nu) FROM nasty
SELECT rank(3) WITHIN GROUP (ORDER BY k) FROM plain
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY sum(f)) FROM plain
SELECT (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY p.id) FROM dim x WHERE x.k = p.k) FROM plain p
select ts + interval '6 hours 00:00:01', ts + interval '1 day 2 days' from m order by id
SELECT id FROM nasty WHERE t = ANY ('{a , b}') OR vc <> ALL ('{a }')
