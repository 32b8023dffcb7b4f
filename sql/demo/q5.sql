-- Repeat buyers: how many ordered how often, and what that is worth
select
    orders,
    count(*) as customers,
    sum(spent) as revenue,
    avg(spent) as average_revenue,
    min(first_order) as since
from (
    select customer_id, count(*) as orders, sum(total) as spent, min(created_at) as first_order
    from orders
    group by customer_id
) as per_customer
group by orders
order by orders
limit 25
