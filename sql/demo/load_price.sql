-- A price changes, and the product is described anew.
update products
set price = greatest(1, price + %(step)s),
    attributes = attributes || jsonb_build_object('campaign', %(campaign)s::text),
    updated_at = now()
where id = %(product)s
