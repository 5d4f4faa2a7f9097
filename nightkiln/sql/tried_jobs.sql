-- The jobs of a batch in the order of the catalog: what each took, what came of it. Of a reused
-- job, what it took in the batch that rendered it.
with here as (
    from jobs where batch = $batch
),
elsewhere as (
    select job_id, arg_max({'gpu_seconds': gpu_seconds, 'gpu': gpu, 'host': host}, finished_at) as r
    from jobs
    where status = 'done' and batch <> $batch
        and job_id in (select job_id from here where status = 'reused')
    group by job_id
),
shown as (
    select job_id, uri, media, bytes, width, height
    from outputs
    where batch = $batch
    qualify row_number() over (partition by job_id order by width is null, index) = 1
)
select
    here.job_id, here.row, here.status, here.fault, here.error, here.prompt,
    here.columns, here.params, here.output_count,
    case when here.status = 'reused' then r.gpu_seconds else here.gpu_seconds end as seconds,
    case when here.status = 'reused' then r.gpu else here.gpu end as gpu,
    case when here.status = 'reused' then r.host else here.host end as host,
    row_number() over (order by here.finished_at, here.job_id) as place,
    shown.uri, shown.media, shown.bytes, shown.width, shown.height
from here
left join elsewhere using (job_id)
left join shown using (job_id)
order by here.row;
