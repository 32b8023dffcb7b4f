-- Failed payments by month and method
select
    date_trunc('month', p.attempted_at) as month,
    p.method,
    count(*) as payments,
    count(*) filter (where p.status = 'failed') as failed,
    sum(p.amount) filter (where p.status = 'failed') as lost,
    avg(p.amount) as average_amount
from payments p
join orders o on o.id = p.order_id
where o.channel <> 'partner'
group by 1, 2
order by 1, 2
