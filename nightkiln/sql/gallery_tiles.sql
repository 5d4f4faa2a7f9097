-- What there is to look at of a batch, in the order of its catalog, then of seeds: one row per file, and one per
-- job that gave none. tries: those that gave nothing, oldest first.
with chosen as (
    from (
        select * replace (status collate nocase as status, fault collate nocase as fault)
        from jobs where batch = $batch
    ) where (
        {{where}}
    )
),
tries as (
    select job_id, list({
        'status': status, 'fault': fault, 'error': error, 'provider': provider, 'host': host,
        'gpu': gpu, 'gpu_seconds': gpu_seconds
    } order by started_at)[:$tries_max] as tries
    from attempts
    where batch = $batch and status <> 'done'
    group by job_id
),
files as (
    select job_id, index, uri, sha256, bytes, media, width, height
    from outputs where batch = $batch
)
select
    c.job_id, c.row, c.catalog, c.status, c.fault, c.error, c.prompt, c.negative, c.seed,
    c.provider, c.gpu, c.host, cast(c.usd as double) as usd, c.gpu_seconds, c.attempt_count,
    epoch(c.finished_at) as finished_s, c.columns, c.params,
    f.index, f.uri, f.sha256, f.bytes, f.media, f.width, f.height, t.tries
from chosen c
left join files f using (job_id)
left join tries t using (job_id)
order by c.row, c.seed, c.job_id, f.index
limit $tiles_max;
