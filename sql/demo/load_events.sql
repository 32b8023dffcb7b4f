-- A visitor looks at something.
insert into events (session_id, customer_id, kind, device, product_id, duration_ms, properties)
select
    gen_random_uuid(), %(customer)s, kind, %(device)s, %(product)s, %(duration)s, '{"live": true}'
from unnest(%(kinds)s::text[]) as kind
