CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');

CREATE TABLE facts (
    id bigint PRIMARY KEY,
    a smallint,
    b integer,
    c bigint,
    k integer NOT NULL,
    m numeric(12, 2),
    n numeric(38, 10),
    nu numeric,
    f real,
    g double precision,
    t text,
    v varchar(8),
    p char(6),
    ci text COLLATE "C",
    ok boolean,
    d date,
    ts timestamp,
    tz timestamptz,
    tm time,
    iv interval,
    u uuid,
    e mood,
    by bytea,
    j jsonb,
    arr int[],
    co text COLLATE sorted
);
INSERT INTO facts
SELECT i,
    (ARRAY[-32768, 32767, 0, 1, -1, 7, NULL])[1 + i % 7],
    (ARRAY[-2147483648, 2147483647, 0, 1, -1, 42, NULL, 100, -100, 3, 5])[1 + i % 11],
    (ARRAY[-9223372036854775808, 9223372036854775807, 0, 1, -1, 123456789012, NULL, 10, 4])[1 + i % 9],
    i % 8,
    (ARRAY[0, -0.01, 9999999999.99, -9999999999.99, 1.5, 2.5, NULL, 100, 0.05, -3.25])[1 + i % 10],
    (ARRAY[0, 1e-10, 9999999999999999999999999999.9999999999, -9999999999999999999999999999.9999999999, 1.5, NULL, 2, 3.3333333333])[1 + i % 8],
    (ARRAY['0', '1.000', 'NaN', '1e40', NULL, '-2.50', 'Infinity'])[1 + i % 7]::numeric,
    (ARRAY['0', '-0', 'NaN', 'Infinity', '-Infinity', '1.5', NULL, '3.4e38', '1e-40', '0.1', '16777217'])[1 + i % 11]::real,
    (ARRAY['0', '-0', 'NaN', 'Infinity', '-Infinity', '2.5', NULL, '1.7e308', '5e-324', '0.1', '-3.5', '1e15', '123456.789'])[1 + i % 13]::float8,
    (ARRAY['', ' ', 'a', 'A', 'ab', 'a  ', 'Zoë', 'ß', 'naïve', NULL, 'z%_\', 'long text, with words', E'tab\tnl\n', '日本', 'O''Neil', '12', '3.50'])[1 + i % 17],
    (ARRAY['', 'x', 'x ', 'Xy', NULL, 'abcdefgh', 'é'])[1 + i % 7],
    (ARRAY['', 'a', 'ab', 'abc def', NULL, 'é', ' x'])[1 + i % 7]::char(6),
    (ARRAY['apple', 'Apple', 'Ápple', 'zebra', '', NULL, '-a', 'co-op', 'coop'])[1 + i % 9],
    (ARRAY[true, false, NULL])[1 + i % 3],
    (ARRAY['2024-02-29', '1970-01-01', 'infinity', '-infinity', '0044-03-15 BC', NULL, '9999-12-31', '2024-03-01', '1999-12-31', '0001-01-01'])[1 + i % 10]::date,
    (ARRAY['2024-02-29 12:34:56.789', '1970-01-01', 'infinity', '-infinity', '0044-03-15 10:00 BC', NULL, '1969-12-31 23:59:59.999999', '2024-12-31 23:59:59'])[1 + i % 8]::timestamp,
    (ARRAY['2024-03-31 01:30+00', '1970-01-01 00:00+00', 'infinity', NULL, '2024-10-27 00:30+00', '1883-11-18 12:00+00', '2024-12-31 23:59:59.5+00', '-infinity', '2030-01-01 00:00+05'])[1 + i % 9]::timestamptz,
    (ARRAY['00:00', '24:00', '12:34:56.789', NULL, '23:59:59.999999'])[1 + i % 5]::time,
    (ARRAY['1 day', '-1 mons', '00:00:01.5', NULL, '1 year 2 mons 3 days 04:05:06'])[1 + i % 5]::interval,
    CASE WHEN i % 6 > 0 THEN md5((i % 20)::text)::uuid END,
    (ARRAY['sad', 'ok', 'happy', NULL])[1 + i % 4]::mood,
    CASE WHEN i % 5 > 0 THEN decode(lpad(to_hex(i % 16), 2, '0'), 'hex') END,
    jsonb_build_object('a', i % 4, 'b', ARRAY[i % 3]),
    CASE WHEN i % 4 > 0 THEN ARRAY[i % 3, NULL, i % 5] END,
    (ARRAY['apple', 'Apple', 'Ápple', 'zebra', '', NULL, '-a', 'co-op', 'coop', 'Zebra', '_b', 'a b', 'ab'])[1 + i % 13]
FROM generate_series(1, 180) i;

-- Calm values, so that sums, products and dates in range have rows to show.
CREATE TABLE sales (
    id integer PRIMARY KEY,
    customer integer NOT NULL,
    item integer,
    quantity smallint NOT NULL,
    price numeric(10, 2) NOT NULL,
    discount numeric(4, 3),
    weight double precision,
    rate double precision,
    grade real NOT NULL,
    region text NOT NULL,
    note varchar(20),
    flag char(1) NOT NULL,
    sold date NOT NULL,
    at timestamp NOT NULL,
    seen timestamptz,
    paid boolean NOT NULL
);
INSERT INTO sales
SELECT i, 1 + i * 7 % 23, CASE WHEN i % 6 > 0 THEN i % 12 END, 1 + i % 9, (i * 37 % 1000) / 7.0,
    CASE WHEN i % 4 > 0 THEN (i % 10) / 100.0 END, CASE WHEN i % 9 > 0 THEN i * 0.25 END,
    CASE WHEN i % 7 > 0 THEN (i * 37 % 60) * 0.1 END, (i % 13) * 0.3,
    (ARRAY['north', 'south', 'East', 'west', ''])[1 + i % 5], CASE WHEN i % 3 > 0 THEN 'note ' || i % 11 END,
    (ARRAY['A', 'R', 'N'])[1 + i % 3], date '2023-11-15' + i, timestamp '2024-01-01' + i * interval '7 hours 13 min',
    CASE WHEN i % 8 > 0 THEN timestamptz '2024-03-01 00:00+00' + i * interval '11 hours' END, i % 3 = 1
FROM generate_series(1, 260) i;

CREATE TABLE customers (
    id integer PRIMARY KEY,
    name text NOT NULL,
    segment varchar(10),
    parent integer,
    credit numeric(12, 2),
    since date,
    town text COLLATE sorted
);
INSERT INTO customers
SELECT i, 'Customer ' || lpad(i::text, 2, '0'), (ARRAY['retail', 'corp', NULL])[1 + i % 3],
    nullif(i / 3, 0), CASE WHEN i % 5 > 0 THEN i * 100.10 END, date '2020-01-31' + i * 31,
    (ARRAY['Ulm', 'ulm', 'Aachen', 'aalen', 'Zürich', 'zug', 'Øster', NULL])[1 + i % 8]
FROM generate_series(1, 30) i;

CREATE TABLE "Order Lines" (
    "select" integer PRIMARY KEY,
    "From" integer,
    "a b" text,
    "Group" numeric(10, 3),
    "user" bigint,
    "é""q" date
);
INSERT INTO "Order Lines"
SELECT i, i % 5, CASE WHEN i % 4 > 0 THEN 'w' || i % 6 END, i / 8.0, nullif(i % 7, 0), date '2024-01-01' + i % 40
FROM generate_series(1, 50) i;

CREATE TABLE empty_t (id integer PRIMARY KEY, x integer, t text, n numeric(8, 2), d date, g double precision);

CREATE TABLE nulls_t (id integer PRIMARY KEY, x integer, t text, n numeric(6, 3), d date, g double precision);
INSERT INTO nulls_t (id) SELECT generate_series(1, 12);

CREATE VIEW v_sales AS SELECT id, customer, price * quantity AS total, region FROM sales WHERE paid;

CREATE SCHEMA other;
CREATE TABLE other.customers (id integer PRIMARY KEY, name text NOT NULL, segment varchar(10), parent integer,
    credit numeric(12, 2), since date, town text);
INSERT INTO other.customers SELECT i, 'Other ' || i, NULL, NULL, i, date '2001-01-01', 'Elsewhere' FROM generate_series(1, 5) i;
