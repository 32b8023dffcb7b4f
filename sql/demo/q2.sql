-- The twenty best customers
select
    c.id,
    c.name,
    c.country,
    count(*) as orders,
    sum(o.total) as spent,
    max(o.created_at) as last_order
from customers c
join orders o on o.customer_id = c.id
join payments p on p.order_id = o.id
where p.status in ('captured', 'pending')
group by c.id, c.name, c.country
order by spent desc, c.id
limit 20
