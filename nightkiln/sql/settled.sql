-- One row per (batch, job): done before reused before failed, then the latest.
-- The losers are found by their keys alone, and those by their hash first: sorting whole rows would
-- not fit in memory.
create or replace view _settled as
with repeated as (
    select hash(batch, job_id) as h from _results group by h having count(*) > 1
),
losers as (
    select filename, row_in_file
    from _results semi join repeated on hash(batch, job_id) = h
    qualify row_number() over (
        partition by batch, job_id
        order by
            case status when 'done' then 0 when 'reused' then 1 else 2 end,
            finished_at desc,
            filename desc,
            row_in_file desc
    ) > 1
)
select * from _results anti join losers using (filename, row_in_file);
