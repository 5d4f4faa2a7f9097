-- One row per run that took its quote and has ended: what was said, what it was, and whether that is
-- inside the p90. null: the run ended before its jobs did, when it was still inside.
create or replace view calibration as
with spent as (
    select batch, epoch, sum(usd) as usd from leases group by batch, epoch
),
worked as (
    select batch, epoch, max(finished_at) as last_at from _results group by batch, epoch
),
ended as (
    select
        batch, epoch, ended_at,
        jobs_total - done - reused - failed as jobs_left,
        coalesce(usd, 0) as usd,
        case when jobs_left = 0 then coalesce(last_at, ended_at) else ended_at end as over_at
    from runs left join spent using (batch, epoch) left join worked using (batch, epoch)
    where ended_at is not null
),
compared as (
    select *, date_diff('microsecond', decided_at, over_at) / 1e6 as finish_s
    from quotes join ended using (batch, epoch)
    where verdict = 'taken'
)
select
    batch, epoch, dt, decided_at as began_at, ended_at, jobs, jobs_left,
    budget_usd, usd_p50, usd_p90, usd,
    case when usd > usd_p90 then false when jobs_left = 0 then true end as inside_p90_usd,
    finish_s_p50, finish_s_p90, finish_s,
    case when finish_s > finish_s_p90 then false when jobs_left = 0 then true end
        as inside_p90_finish,
    deadline_at, deadline_met_fraction, over_at <= deadline_at and jobs_left = 0 as deadline_met,
    nights, basis, market, market_sha256
from compared;
