-- The hundred jobs of each batch that took longest beside what is usual (the median) for their
-- workflow on their GPU.
create or replace view slowest as
with usual as (
    select gpu, workflow_digest, quantile_cont(gpu_seconds, 0.5) as usual_s, count(*) as jobs
    from jobs
    where status = 'done' and gpu_seconds > 0
    group by gpu, workflow_digest
)
select
    j.batch, j.dt, j.catalog, j.job_id,
    j.gpu_seconds / u.usual_s as times_usual,
    j.gpu_seconds, u.usual_s, u.jobs as usual_of_jobs,
    j.queue_s, j.download_s, j.attempt_count,
    j.provider, j.gpu, j.host, j.prompt, j.seed, j.width, j.height, j.uri, j.finished_at
from jobs j
join usual u
    on j.gpu is not distinct from u.gpu
    and j.workflow_digest is not distinct from u.workflow_digest
where j.status = 'done' and j.gpu_seconds > 0
qualify row_number() over (partition by j.batch order by j.gpu_seconds / u.usual_s desc) <= 100;
