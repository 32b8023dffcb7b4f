-- A customer moves.
update customers
set city = %(city)s, newsletter = not newsletter, updated_at = now()
where id = %(customer)s
