-- One row per batch: how far it is, as far as it is committed (every 256 jobs or 30 s). The pace is
-- that of the last five minutes, or since its newest run began; of one that is over there is none.
create or replace view progress as
with newest as (
    select
        batch, max(epoch) as epoch, arg_max({'at': ended_at}, epoch).at is null as is_working,
        cast(now() at time zone 'UTC' as timestamp) as now_at,
        greatest(max(started_at), now_at - interval 5 minute) as from_at
    from runs
    group by batch
),
by_run as ( -- jobs are millions, and what follows joins runs
    select
        batch, epoch,
        count(*) filter (status = 'done') as done,
        count(*) filter (status = 'reused') as reused,
        count(*) filter (status = 'failed') as failed,
        coalesce(sum(output_count) filter (status = 'done'), 0) as images,
        max(finished_at) as last_at,
        count(*) filter (
            status <> 'reused'
            and finished_at between
                cast(now() at time zone 'UTC' as timestamp) - interval 5 minute
                and cast(now() at time zone 'UTC' as timestamp)
        ) as recent,
        coalesce(sum(usd_marginal), 0) as usd_marginal
    from jobs
    group by batch, epoch
),
settled as (
    select
        batch,
        cast(sum(done) as bigint) as done,
        cast(sum(reused) as bigint) as reused,
        cast(sum(failed) as bigint) as failed,
        cast(sum(images) as bigint) as images,
        max(last_at) as last_at,
        coalesce(sum(recent) filter (by_run.epoch = newest.epoch and is_working), 0)
            / greatest(1, any_value(epoch(now_at - from_at)) / 60) as jobs_per_minute,
        sum(usd_marginal) as usd_marginal
    from by_run left join newest using (batch)
    group by batch
),
paid as (
    select batch, sum(usd) as usd from leases group by batch
)
select
    b.batch, b.dt, b.catalog, b.runs, b.jobs_total,
    coalesce(s.done, 0) as done,
    coalesce(s.reused, 0) as reused,
    coalesce(s.failed, 0) as failed,
    greatest(0, b.jobs_total - coalesce(s.done + s.reused + s.failed, 0)) as jobs_left,
    1 - jobs_left / nullif(b.jobs_total, 0) as settled_fraction,
    coalesce(s.images, 0) as images,
    cast(coalesce(s.jobs_per_minute, 0) as double) as jobs_per_minute,
    case when jobs_left > 0 then 60 * jobs_left / nullif(s.jobs_per_minute, 0) end as eta_s,
    b.started_at, s.last_at, b.ended_at, b.exit_code,
    cast(coalesce(p.usd, 0) + coalesce(s.usd_marginal, 0) as decimal(18, 6)) as usd
from batches b left join settled s using (batch) left join paid p using (batch);
