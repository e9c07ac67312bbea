-- Work for SQLite: a table, an index, joins, aggregates and text.
create table item (id integer primary key, kind integer, price real, name text);
with recursive number(n) as (select 1 union all select n + 1 from number where n < 20000)
insert into item select n, n * 7919 % 101, (n * 31 % 1000) / 10.0, 'item ' || (n * 104729 % 20011) from number;
create index item_kind on item (kind);
create index item_name on item (name);
select kind, count(*), sum(price), max(name) from item group by kind order by sum(price) desc limit 3;
select count(*) from item a join item b on a.kind = b.kind and b.id = a.id + 101;
update item set price = price * 1.1 where name like 'item 1%';
select round(avg(price), 3) from item where name between 'item 12' and 'item 15';
delete from item where id % 3 = 0;
select count(*), round(sum(price), 2) from item;
