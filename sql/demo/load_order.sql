-- One customer buys up to three products: four tables in one transaction.
with locked as materialized (
    -- Always in the same order: two customers at the same shelf never wait for one another.
    select id, price from products where id = any(%(products)s) order by id for no key update
), chosen as (
    select id, price, row_number() over (order by id) as line_no from locked
), stocked as (
    update products
    set stock = stock - %(quantity)s, updated_at = now()
    from locked
    where products.id = locked.id
), placed as (
    insert into orders (customer_id, channel, total)
    select %(customer)s, %(channel)s, sum(price) * %(quantity)s from chosen
    returning id, total
), listed as (
    insert into order_lines (order_id, line_no, product_id, quantity, unit_price)
    select placed.id, chosen.line_no, chosen.id, %(quantity)s, chosen.price
    from placed, chosen
)
insert into payments (order_id, method, status, amount)
select id, %(method)s, 'pending', total from placed
