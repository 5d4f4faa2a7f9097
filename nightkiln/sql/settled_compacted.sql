-- The rows that lose against another one of the same (batch, job): done before reused before failed,
-- then the latest. Compacted files have no losers among themselves, so only those of their row
-- groups are looked into that may hold a batch of which there are fresh rows.
create or replace view _lost as
with fresh as materialized (
    select batch, job_id, status, finished_at, filename, row_in_file from _fresh
),
told as (
    from fresh
    union all
    select batch, job_id, status, finished_at, filename, row_in_file
    from _compacted semi join (select distinct batch from fresh) using (batch)
        semi join fresh using (batch, job_id)
)
select filename, row_in_file
from told
qualify row_number() over (
    partition by batch, job_id
    order by
        case status when 'done' then 0 when 'reused' then 1 else 2 end,
        finished_at desc,
        filename desc,
        row_in_file desc
) > 1;
-- One row per (batch, job).
create or replace view _settled as
from _results anti join _lost using (filename, row_in_file);
