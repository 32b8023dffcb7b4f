-- About 720,000 of the shop's million rows at scale 1; the last year up to now. {scale} is a number.
select setseed(0.42);

insert into customers (name, email, country, city, newsletter, created_at, updated_at)
select
    'Customer ' || n,
    'customer' || n || '@example.org',
    (array['DE', 'FR', 'NL', 'PL', 'SE', 'US', 'GB', 'IT'])[1 + floor(8 * r * r)::int],
    case when n % 11 = 0 then null else 'City ' || n % 400 end,
    n % 3 = 0,
    now() - interval '2 years' + n % 365 * interval '1 day',
    now() - interval '1 year'
from (
    select n, random() as r
    from generate_series(1, (40000 * {scale})::int) as n
) as drawn;

insert into products
    (sku, name, category, price, weight_kg, stock, tags, attributes, listed_on, updated_at)
select
    'SKU-' || lpad(n::text, 6, '0'),
    'Product ' || n,
    (array['books', 'garden', 'kitchen', 'music', 'office', 'sports', 'toys', 'travel'])[1 + n % 8],
    (3 + 400 * r * r * r)::numeric(12, 2),
    case when n % 7 = 0 then null else r * 20 end,
    1000000,
    case n % 4 when 0 then '{}' when 1 then '{new}' else array['eco', 'size ' || n % 5] end,
    jsonb_build_object('colour', (array['red', 'green', 'blue'])[1 + n % 3], 'warranty', n % 5),
    current_date - 800 + n % 700,
    now() - interval '1 year'
from (
    select n, random() as r
    from generate_series(1, (2000 * {scale})::int) as n
) as drawn;

insert into orders (customer_id, status, channel, total, note, created_at, updated_at)
select
    1 + floor(40000 * {scale} * r * r)::bigint,
    (array['paid', 'shipped', 'shipped', 'shipped', 'shipped', 'cancelled'])[1 + n % 6]::order_status,
    (array['web', 'web', 'app', 'app', 'phone', 'partner'])[1 + floor(6 * s)::int],
    0,
    case when n % 20 = 0 then 'please ring twice: ' || repeat('door ', n % 40) end,
    at,
    at
from (
    select
        n,
        random() as r,
        random() as s,
        now() - interval '1 year' + n / (150000.0 * {scale}) * interval '364 days'
            + random() * interval '1 day' as at
    from generate_series(1, (150000 * {scale})::int) as n
) as drawn;

insert into order_lines (order_id, line_no, product_id, quantity, unit_price, discount)
select
    drawn.order_id,
    drawn.line_no,
    products.id,
    drawn.quantity,
    products.price,
    case when drawn.order_id % 9 = 0 then 0.1000 else 0 end
from (
    select
        n as order_id,
        line_no,
        1 + floor(2000 * {scale} * random())::int as product_id,
        1 + floor(4 * random() * random())::int as quantity
    from
        generate_series(1, (150000 * {scale})::int) as n,
        generate_series(1, 1 + n % 4) as line_no
) as drawn
join products on products.id = drawn.product_id;

update orders
set total = summed.total
from (
    select order_id, sum(round(quantity * unit_price * (1 - discount), 2)) as total
    from order_lines
    group by order_id
) as summed
where orders.id = summed.order_id;

insert into payments (order_id, method, status, amount, attempted_at, settled_on)
select
    id,
    (array['card', 'card', 'invoice', 'transfer', 'wallet'])[1 + floor(5 * random())::int],
    case
        when status = 'cancelled' then 'refunded'
        when random() < 0.04 then 'failed'
        else 'captured'
    end,
    total,
    created_at + interval '3 minutes',
    case when status <> 'cancelled' then created_at::date + 2 end
from orders;
