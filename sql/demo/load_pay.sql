-- The oldest waiting payment is captured, or fails; its order follows.
with paid as (
    update payments
    set status = %(status)s, settled_on = current_date + 2
    where id = (
        select id from payments
        where status = 'pending'
        order by id
        limit 1
        for update skip locked
    )
    returning id, order_id, status
)
update orders
set status = case when paid.status = 'captured' then 'paid' else 'placed' end::order_status,
    updated_at = now()
from paid
where orders.id = paid.order_id
