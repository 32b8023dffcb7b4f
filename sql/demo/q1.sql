-- Revenue per day and category, the best first
select
    date_trunc('day', o.created_at) as day,
    p.category,
    count(distinct o.id) as orders,
    sum(l.quantity * l.unit_price) as revenue
from orders o
join order_lines l on l.order_id = o.id
join products p on p.id = l.product_id
group by 1, 2
order by revenue desc, day desc, min(p.id)
limit 80
