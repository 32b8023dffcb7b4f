-- What makes the shop's tables a database: keys, references, indexes, statistics.
alter table customers add primary key (id);
alter table products add primary key (id);
alter table orders add primary key (id);
alter table order_lines add primary key (order_id, line_no);
alter table payments add primary key (id);
alter table events add primary key (id);

create unique index on products (sku);
create index on orders (customer_id);
create index on orders (created_at);
create index on order_lines (product_id);
create index on payments (order_id);
create index on payments (id) where status = 'pending';
create index on events (occurred_at);

select setval(pg_get_serial_sequence('customers', 'id'), (select max(id) from customers));
select setval(pg_get_serial_sequence('products', 'id'), (select max(id) from products));
select setval(pg_get_serial_sequence('orders', 'id'), (select max(id) from orders));
select setval(pg_get_serial_sequence('payments', 'id'), (select max(id) from payments));
select setval(pg_get_serial_sequence('events', 'id'), (select max(id) from events));

alter table orders add foreign key (customer_id) references customers;
alter table order_lines add foreign key (order_id) references orders on delete cascade;
alter table order_lines add foreign key (product_id) references products;
alter table payments add foreign key (order_id) references orders on delete cascade;
alter table events add foreign key (customer_id) references customers;

vacuum (analyze);
