-- One row per host that was ever rented, or is a worker of one's own: how fast it is, how it failed,
-- what was paid. Its class are the hosts with its GPU that rendered the same workflow.
create or replace view machines as
with ended as (
    from leases
),
rented as (
    select
        provider, host, arg_max(gpu, rented_at) as gpu,
        count(*) as leases,
        count(*) filter (ready_at is null) as never_up,
        count(distinct batch) as batches,
        avg(epoch(ready_at - rented_at)) as startup_s,
        sum(epoch(released_at - rented_at)) / 3600 as hours,
        sum(usd) filter (released_at is not null) as usd_timed,
        sum(usd) as usd,
        min(rented_at) as first_rented_at,
        max(released_at) as last_released_at
    from ended
    group by provider, host
),
tried as (
    select
        coalesce(l.provider, a.provider) as provider, coalesce(l.host, a.host) as host,
        sum(a.done) as done, sum(a.failed) as failed, sum(a.lost) as lost,
        sum(a.stopped) as stopped, sum(a.of_job) as of_job, sum(a.of_machine) as of_machine,
        sum(a.of_market) as of_market, sum(a.of_ours) as of_ours, sum(a.of_unknown) as of_unknown
    from (
        select
            lease_id, any_value(provider) as provider, any_value(host) as host,
            count(*) filter (status = 'done') as done,
            count(*) filter (status = 'failed') as failed,
            count(*) filter (status = 'lost') as lost,
            count(*) filter (status in ('cancelled', 'hedge')) as stopped,
            count(*) filter (status = 'failed' and fault = 'job') as of_job,
            count(*) filter (status = 'failed' and fault = 'machine') as of_machine,
            count(*) filter (status = 'failed' and fault = 'market') as of_market,
            count(*) filter (status = 'failed' and fault = 'ours') as of_ours,
            count(*) filter (status = 'failed' and fault = 'unknown') as of_unknown
        from attempts
        where lease_id is not null
        group by lease_id
    ) a
    left join ended l using (lease_id)
    group by all
),
paces as (
    select
        coalesce(l.provider, j.provider) as provider, coalesce(l.host, j.host) as host,
        j.gpu, j.workflow_digest,
        sum(j.jobs) as jobs, sum(j.gpu_seconds) as gpu_seconds, sum(j.log) / sum(j.jobs) as log
    from (
        select
            lease_id, provider, host, gpu, workflow_digest,
            count(*) as jobs, sum(gpu_seconds) as gpu_seconds, sum(ln(gpu_seconds)) as log
        from jobs
        where status = 'done' and gpu_seconds > 0
        group by all
    ) j
    left join ended l using (lease_id)
    group by all
),
classes as (
    select gpu, workflow_digest, avg(log) as log, count(*) as hosts
    from paces
    group by gpu, workflow_digest
),
speeds as (
    select
        p.provider, p.host, arg_max(p.gpu, p.jobs) as gpu,
        sum(p.gpu_seconds) / sum(p.jobs) as seconds_per_job,
        exp(sum(p.jobs * (p.log - c.log)) filter (c.hosts > 1)
            / sum(p.jobs) filter (c.hosts > 1)) as seconds_vs_class
    from paces p
    join classes c
        on p.gpu is not distinct from c.gpu
        and p.workflow_digest is not distinct from c.workflow_digest
    group by p.provider, p.host
),
everywhere as (
    select provider, host from rented
    union
    select provider, host from tried
)
select
    e.provider, e.host, coalesce(s.gpu, r.gpu) as gpu,
    coalesce(r.leases, 0) as leases,
    coalesce(r.never_up, 0) as never_up,
    coalesce(r.batches, 0) as batches,
    r.startup_s, s.seconds_per_job, s.seconds_vs_class,
    cast(coalesce(t.done, 0) as bigint) as tries_done,
    cast(coalesce(t.failed, 0) as bigint) as tries_failed,
    cast(coalesce(t.lost, 0) as bigint) as tries_lost,
    cast(coalesce(t.stopped, 0) as bigint) as tries_stopped,
    cast(coalesce(t.of_job, 0) as bigint) as failed_job,
    cast(coalesce(t.of_machine, 0) as bigint) as failed_machine,
    cast(coalesce(t.of_market, 0) as bigint) as failed_market,
    cast(coalesce(t.of_ours, 0) as bigint) as failed_ours,
    cast(coalesce(t.of_unknown, 0) as bigint) as failed_unknown,
    coalesce(r.hours, 0) as hours,
    cast(coalesce(r.usd, 0) as decimal(18, 6)) as usd,
    cast(r.usd_timed / nullif(r.hours, 0) as decimal(18, 6)) as usd_per_hour,
    cast(1000 * r.usd / nullif(t.done, 0) as decimal(18, 4)) as usd_per_1000_jobs,
    r.first_rented_at, r.last_released_at
from everywhere e
left join rented r on r.provider is not distinct from e.provider and r.host is not distinct from e.host
left join tried t on t.provider is not distinct from e.provider and t.host is not distinct from e.host
left join speeds s on s.provider is not distinct from e.provider and s.host is not distinct from e.host;
