// node-postgres: simple, with parameters, named.
const {Client} = require('pg');
(async () => {
  const c = new Client({host: '127.0.0.1', port: +process.argv[2], user: 'postgres', database: 'shop'});
  await c.connect();
  const route = async () => ' ' + (await c.query('show htapkit.last_route')).rows[0]['htapkit.last_route'];
  const count = (await c.query('/*hot*/ select count(*) as n from ev')).rows[0].n;
  console.log(count + await route());
  const text = '/*hot*/ select name from ev where id <= $1::int order by id desc limit 1';
  const name = (await c.query(text, [5])).rows[0].name;
  console.log(name + await route());
  const named = {name: 'a', text: '/*hot*/ select sum(id)::int as x from ev where id <= $1::int'};
  const found = [];
  for (const i of [1, 2, 3]) found.push((await c.query({...named, values: [i]})).rows[0].x);
  console.log(JSON.stringify(found));
  await c.end();
})();
