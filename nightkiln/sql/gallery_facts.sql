-- A batch in figures, for the head of its gallery: all of it, and what is to be shown of it.
select
    any_value(catalog) as catalog,
    cast(any_value(dt) as varchar) as date,
    count(*) as jobs,
    count(*) filter (status = 'done') as done,
    count(*) filter (status = 'reused') as reused,
    count(*) filter (status = 'failed') as failed,
    cast(sum(usd) as double) as usd,
    coalesce(sum(greatest(output_count, 1)) filter (
        {{where}}
    ), 0) as tiles
from (
    select * replace (status collate nocase as status, fault collate nocase as fault)
    from jobs where batch = $batch
);
