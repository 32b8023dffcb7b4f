-- The other 280,000 rows of the shop at scale 1: what visitors did. {scale} is a number.
select setseed(0.7);

insert into events
    (session_id, customer_id, kind, device, product_id, duration_ms, properties, occurred_at)
select
    md5('session ' || n / 4)::uuid,
    case when n % 3 > 0 then 1 + floor(40000 * {scale} * random())::bigint end,
    case
        when n % 4 = 0 then 'view'
        when r < 0.5 then 'search'
        when r < 0.8 then 'cart'
        when r < 0.93 then 'checkout'
        else 'purchase'
    end,
    (array['desktop', 'phone', 'phone', 'tablet'])[1 + n / 4 % 4],
    1 + floor(2000 * {scale} * random())::int,
    case when n % 13 > 0 then floor(60000 * r)::int end,
    case
        when n % 5 = 0 then jsonb_build_object('page', n % 100, 'referrer', 'campaign ' || n % 12)
        else '{}'
    end,
    now() - interval '1 year' + n / (280000.0 * {scale}) * interval '365 days'
from (
    select n, random() as r
    from generate_series(1, (280000 * {scale})::int) as n
) as drawn;
