-- Sessions that got so far, from looking to buying, by device
select
    device,
    count(distinct session_id) as sessions,
    count(distinct session_id) filter (where kind = 'cart') as with_cart,
    count(distinct session_id) filter (where kind = 'checkout') as with_checkout,
    count(distinct session_id) filter (where kind = 'purchase') as with_purchase,
    sum(duration_ms) as watched_ms
from events
group by device
order by device
