-- Runs of a batch, what their leases came to, and what was settled last in each; times are epoch
-- seconds.
with paid as (
    select epoch, sum(usd) as usd from leases where batch = $batch group by epoch
),
settled as (
    select epoch, max(finished_at) as last_at
    from jobs where batch = $batch and status <> 'reused' group by epoch
)
select
    r.epoch, r.exit_code, r.jobs_total, r.catalog,
    epoch_us(r.started_at) / 1e6 as started_s,
    epoch_us(r.ended_at) / 1e6 as ended_s,
    epoch_us(s.last_at) / 1e6 as last_s,
    coalesce(p.usd, 0) as usd
from runs r left join paid p using (epoch) left join settled s using (epoch)
where r.batch = $batch
order by r.epoch;
