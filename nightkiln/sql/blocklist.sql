-- One row per machine that is not rented before ``until``, and why.
create or replace view blocklist as
select
    b.provider, b.machine, b.cause,
    make_timestamp(cast(b.since_s * 1e6 as bigint)) as since,
    make_timestamp(cast(b.until_s * 1e6 as bigint)) as until
from (select unnest(blocked) as b from read_json('{{root}}scores/market/*.json',
    columns = {'blocked':
        'struct(provider varchar, machine varchar, cause varchar, since_s double, until_s double)[]'},
    format = 'newline_delimited', ignore_errors = true))
where b.until_s > epoch(now())
qualify row_number() over (partition by b.provider, b.machine order by b.until_s desc) = 1;
