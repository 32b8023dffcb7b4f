CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');

CREATE TABLE m (
    id int PRIMARY KEY,
    ts timestamp,
    tz timestamptz,
    dev text,
    v double precision,
    n numeric(10, 3),
    ok boolean,
    j jsonb,
    tags text[]
);
INSERT INTO m
SELECT i, timestamp '2024-01-01' + i * interval '37 minutes', timestamptz '2024-01-01 00:00:00+00' + i * interval '37 minutes',
    CASE WHEN i % 7 = 0 THEN NULL ELSE 'Dev-' || (i % 5) END, i * 1.25, i * 0.333, i % 3 = 0,
    ('{"a":' || i || ',"b":{"c":"x' || i || '"},"l":[1,2,3]}')::jsonb, ARRAY['t' || (i % 3), 'z']
FROM generate_series(1, 60) g(i);

CREATE TABLE nasty (
    id int PRIMARY KEY,
    i2 smallint,
    i4 integer,
    i8 bigint,
    f4 real,
    f8 double precision,
    n0 numeric(12, 0),
    n2 numeric(15, 2),
    n6 numeric(20, 6),
    nw numeric(38, 10),
    nu numeric,
    b boolean,
    t text,
    vc varchar(12),
    c5 char(5),
    c9 char(9),
    d date,
    tm time,
    ts timestamp,
    tz timestamptz,
    u uuid,
    by bytea,
    j jsonb,
    js json,
    a4 int[],
    e mood,
    iv interval
);
INSERT INTO nasty VALUES
(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, true, '', '', '', '', '2000-01-01', '00:00', '2000-01-01 00:00', '2000-01-01 00:00+00', '00000000-0000-0000-0000-000000000000', '', '{}', '{}', '{}', 'sad', '0'),
(2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.000, false, 'a', 'a', 'a', 'a', '2000-02-29', '12:34:56.789', '2000-02-29 12:34:56.789', '2000-02-29 12:34:56.789+00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\x00ff', '{"a": 1.0}', '{"a":  1.0}', '{1,NULL,3}', 'ok', '1 mon'),
(3, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1.5, NULL, 'a ', 'a ', 'ab', 'ab', '1999-12-31', '23:59:59.999999', '1999-12-31 23:59:59.999999', '1999-12-31 23:59:59.999999+00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '\xdeadbeef', '[1, 2]', '[1, 2]', '{{1,2},{3,4}}', 'happy', '-1 days'),
(4, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 999999999999, 9999999999999.99, 99999999999999.999999, 9999999999999999999999999999.9999999999, 123456789012345678901234567890.123456789012345678901234567890, true, 'Zebra', 'Zebra', 'Zebra', 'Zebra', '9999-12-31', '24:00', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', NULL, NULL, 'null', 'null', NULL, NULL, '1 year 2 mons 3 days 04:05:06'),
(5, -32768, -2147483648, -9223372036854775808, -3.4028235e38, -1.7976931348623157e308, -999999999999, -9999999999999.99, -99999999999999.999999, -9999999999999999999999999999.9999999999, 'NaN', false, 'zebra', 'zebra', 'zebra', 'zebra', '0001-01-01', '06:00', '0001-01-01 00:00', '0001-01-01 00:00+00', NULL, NULL, '1', '1', '{2147483647}', 'sad', '-00:00:01'),
(6, 7, 7, 7, 'NaN', 'NaN', 7, 7.07, 7.000007, 7.0000000007, 7, true, 'héllo', 'héllo', 'hé', 'hé', '0044-03-15 BC', '07:07:07', '0044-03-15 12:00 BC', '0044-03-15 12:00+00 BC', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '\x61', '"x"', '"x"', '{7}', 'ok', '7 hours'),
(7, -7, -7, -7, 'Infinity', 'Infinity', -7, -7.07, -7.000007, -7.0000000007, -7, false, 'Straße', 'Straße', 'ß', 'ß', 'infinity', '07:07:07', 'infinity', 'infinity', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', '\x62', 'true', 'true', '{-7}', 'happy', '-7 hours'),
(8, 3, 3, 3, '-Infinity', '-Infinity', 3, 3.33, 3.333333, 3.3333333333, 3.3, NULL, '日本語', '日本語', '日本', '日本', '-infinity', '03:03', '-infinity', '-infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
(9, 2, 2, 2, 0.1, 0.1, 2, 2.5, 2.500000, 2.5000000000, 2.50, true, 'a%b_c\d', 'a%b_c\d', 'a%b', 'a_b', '2024-02-29', '10:10:10', '2024-02-29 10:10:10.5', '2024-02-29 10:10:10.5+00', NULL, NULL, '{"k": [1, {"z": null}]}', '{"k": [1]}', '{1,2,3}', 'ok', '1 day'),
(10, -2, -2, -2, -0.5, -0.5, -2, -2.5, -2.500000, -2.5000000000, -2.5, false, E'tab\tand\nnewline', E'tab\t', E'a\tb', E'a\tb', '2024-03-01', '10:10:10', '2024-03-01 00:00:00', '2024-03-01 00:00:00+00', NULL, NULL, '[]', '[]', '{}', 'sad', '0.5 days'),
(11, 100, 100000, 10000000000, 16777216, 9007199254740993, 100, 100.10, 100.100000, 100.1000000000, 100, true, 'quote''s "double"', 'q''s', 'q''', 'q"', '1970-01-01', '00:00:01', '1970-01-01 00:00:00', '1970-01-01 00:00:00+00', NULL, '\x5c', '{"q": "\"'' \\ "}', '{}', '{100}', 'ok', '100 days'),
(12, 12, 12, 12, 1.5, 2.5, 12, 0.01, 0.000001, 0.0000000001, 1e-20, true, 'NULL', 'NULL', 'NULL', 'NULL', '1969-12-31', '12:12:12', '1969-12-31 23:59:59.5', '1969-12-31 23:59:59.5+00', NULL, NULL, '{}', '{}', NULL, 'happy', '12 min'),
(13, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
(14, 5, 5, 5, '-0', '-0', 5, -0.01, -0.000001, -0.0000000001, 0.00, false, 'A', 'A', 'A', 'A', '2020-12-31', '05:05:05', '2020-12-31 12:00', '2020-12-31 12:00+00', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A14', '\x41', '{"b":1,"a":2}', '{"b":1,"a":2}', '{5}', 'sad', '5 days'),
(15, 5, 5, 5, 5.5, 5.5, 5, 5.50, 5.500000, 5.5000000000, 5.50, true, 'b', 'b', 'b', 'b', '2021-01-01', '05:05:05', '2021-01-01 00:00', '2021-01-01 00:00+00', NULL, '\x41', '{"b":1,"a":2}', '{"b":1,"a":2}', '{5}', 'sad', '5 days');

-- Everyday rows: no value in them makes an operator fail.
CREATE TABLE plain (
    id int PRIMARY KEY,
    k smallint NOT NULL,
    i int,
    l bigint,
    r real,
    f double precision,
    n numeric(12, 2),
    q numeric(8, 4),
    ok boolean,
    t text,
    s varchar(20),
    c char(6),
    d date,
    ts timestamp,
    tz timestamptz
);
INSERT INTO plain
SELECT g, g % 7, CASE WHEN g % 11 = 0 THEN NULL ELSE (g * 37) % 101 - 50 END, CASE WHEN g % 13 = 0 THEN NULL ELSE g * 1000003::bigint END,
    (g % 16) / 4.0, CASE WHEN g % 17 = 0 THEN NULL ELSE (g - 100) / 8.0 END,
    CASE WHEN g % 5 = 0 THEN NULL ELSE ((g * 7919) % 100003) / 100.0 - 300 END, ((g * 31) % 997) / 16.0 + 1,
    CASE g % 3 WHEN 0 THEN true WHEN 1 THEN false END,
    CASE WHEN g % 9 = 0 THEN NULL ELSE chr(97 + g % 26) || ' ' || chr(65 + g % 5) || g % 4 END,
    substr('North South East West', 1 + g % 15, g % 6), substr('abcdefghij', 1 + g % 7, g % 5),
    date '2023-11-15' + g, timestamp '2023-12-30 22:15:00' + g * interval '95 minutes 7.252984 seconds',
    timestamptz '2023-12-30 22:15:00+00' + g * interval '26 hours'
FROM generate_series(1, 200) g;

CREATE TABLE dim (
    k smallint PRIMARY KEY,
    name text NOT NULL,
    code char(6),
    rate numeric(6, 3),
    since date
);
INSERT INTO dim
SELECT g, 'dim ' || g, substr('abcdefghij', g + 1, g % 5), g * 1.125, date '2023-12-01' + g * 10
FROM generate_series(0, 9) g;
