-- One row per machine that earlier runs came to know: how fast it is against others of its class.
create or replace view scorecard as
select
    m.provider, m.machine,
    exp(m.log) as seconds_vs_class, -- 0.9: a tenth faster than one of its class
    make_timestamp(cast(m.seen_s * 1e6 as bigint)) as seen_at
from (select unnest(luck) as m from read_json('{{root}}scores/market/*.json',
    columns = {'luck': 'struct(provider varchar, machine varchar, log double, seen_s double)[]'},
    format = 'newline_delimited', ignore_errors = true))
qualify row_number() over (partition by m.provider, m.machine order by m.seen_s desc) = 1;
