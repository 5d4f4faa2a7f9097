-- Of the shards to be folded and the compacted files: rows that lose against another one of the same
-- (batch, job), as in the view _settled. Keys are first compared by their hash, which fits in memory.
with fresh as (
    select batch, job_id, status, finished_at, filename, file_row_number as row_in_file
    from read_parquet([{{shards}}], hive_partitioning = false)
),
told as (
    from fresh{{compacted}}
),
repeated as (
    select hash(batch, job_id) as h from told group by h having count(*) > 1
),
ranked as (
    select
        filename, row_in_file,
        row_number() over (
            partition by batch, job_id
            order by
                case status when 'done' then 0 when 'reused' then 1 else 2 end,
                finished_at desc,
                filename desc,
                row_in_file desc
        ) as place
    from told semi join repeated on hash(told.batch, told.job_id) = repeated.h
)
select filename, row_in_file from ranked where place > 1 order by all;
