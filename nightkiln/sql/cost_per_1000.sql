-- One row per provider, GPU and workflow: what 1000 images cost there, all waste included. Over all
-- rows usd is that of all leases and what jobs cost beside their lease, to the cent.
create or replace view cost_per_1000 as
with made as (
    select
        lease_id, provider, gpu, workflow_digest, catalog,
        count(*) filter (status = 'done') as jobs,
        coalesce(sum(output_count) filter (status = 'done'), 0) as images,
        coalesce(sum(output_count) filter (status = 'done' and usd is null), 0) as images_unpriced,
        coalesce(sum(gpu_seconds) filter (status = 'done'), 0) as gpu_seconds,
        coalesce(sum(usd), 0) as usd_jobs,
        coalesce(sum(usd - usd_marginal), 0) as carried
    from jobs
    where status <> 'reused'
    group by all
),
-- A lease that made something is of the GPU that its worker named: an offer may not know it.
known as (
    select
        lease_id, arg_max(gpu, jobs) as gpu, arg_max(workflow_digest, jobs) as workflow_digest,
        sum(carried) as carried
    from made
    where lease_id is not null
    group by lease_id
),
wasted as (
    select
        l.provider, coalesce(k.gpu, l.gpu) as gpu,
        coalesce(k.workflow_digest, r.workflow_digest) as workflow_digest,
        r.catalog, l.usd - coalesce(k.carried, 0) as usd_waste
    from leases l
    left join known k using (lease_id)
    left join runs r on r.batch = l.batch and r.epoch = l.epoch
),
told as (
    select * exclude (lease_id, carried), 0 as usd_waste from made
    union all by name
    select
        *, 0 as jobs, 0 as images, 0 as images_unpriced, 0 as gpu_seconds, 0 as usd_jobs
    from wasted
)
select
    provider, gpu, workflow_digest,
    list_sort(list(distinct catalog) filter (catalog is not null)) as catalogs,
    cast(sum(jobs) as bigint) as jobs,
    cast(sum(images) as bigint) as images,
    cast(sum(images_unpriced) as bigint) as images_unpriced,
    sum(gpu_seconds) / nullif(sum(jobs), 0) as seconds_per_job,
    cast(sum(usd_jobs) as decimal(18, 9)) as usd_jobs,
    cast(sum(usd_waste) as decimal(18, 9)) as usd_waste,
    cast(sum(usd_jobs) + sum(usd_waste) as decimal(18, 9)) as usd,
    cast(1000 * (sum(usd_jobs) + sum(usd_waste)) / nullif(sum(images) - sum(images_unpriced), 0)
        as decimal(18, 4)) as usd_per_1000
from told
group by provider, gpu, workflow_digest;
