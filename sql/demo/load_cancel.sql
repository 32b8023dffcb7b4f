-- An order never was: it goes with its lines and payments (on delete cascade).
delete from orders
where id = (
    select id from orders
    where customer_id = %(customer)s
    order by id desc
    limit 1
    for update skip locked
)
