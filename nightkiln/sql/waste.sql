-- One row per lease that is over, and what its cost was for, told in two ways. By who carries it:
-- usd, which no job does, + jobs_usd = leases.usd. By the clock, where jobs do not carry start-up
-- and idle time: usd_startup + usd_rendering + usd_failed + usd_hedged + usd_idle = leases.usd.
create or replace view waste as
with ended as (
    from leases
),
carried as (
    select lease_id, sum(usd - usd_marginal) as usd from jobs where lease_id is not null group by 1
),
timed as (
    select
        l.lease_id,
        greatest(0, coalesce(
            date_diff('microsecond', l.rented_at, l.released_at) / 1e6, 0
        )) as lived_s,
        greatest(0, case
            when l.ready_at is null then lived_s
            else date_diff('microsecond', l.rented_at, l.ready_at) / 1e6
        end) as startup_s,
        coalesce(u.rendering_s, 0) as rendering_s,
        coalesce(u.failed_s, 0) as failed_s,
        coalesce(u.hedged_s, 0) as hedged_s,
        greatest(0, lived_s - startup_s - rendering_s - failed_s - hedged_s) as idle_s,
        startup_s + rendering_s + failed_s + hedged_s + idle_s as told_s
    from ended l left join _uses u using (lease_id)
),
shared as (
    select
        t.*,
        -- Of a lease of which nobody knows how long it lived, nothing is known but that it began.
        cast(coalesce(l.usd * startup_s / nullif(told_s, 0), l.usd) as decimal(18, 9))
            as usd_startup,
        cast(coalesce(l.usd * failed_s / nullif(told_s, 0), 0) as decimal(18, 9)) as usd_failed,
        cast(coalesce(l.usd * hedged_s / nullif(told_s, 0), 0) as decimal(18, 9)) as usd_hedged,
        cast(coalesce(l.usd * idle_s / nullif(told_s, 0), 0) as decimal(18, 9)) as usd_idle
    from timed t join ended l using (lease_id)
)
select
    l.lease_id, l.batch, l.dt, l.epoch, l.provider, l.gpu, l.host,
    l.usd - coalesce(c.usd, 0) as usd,
    coalesce(c.usd, 0) as jobs_usd,
    case
        when l.busy_s > 0 then 'worked'
        when l.ready_at is null then 'never up'
        else 'never worked'
    end as lease,
    l.reason,
    s.startup_s, s.rendering_s, s.failed_s, s.hedged_s, s.idle_s,
    s.usd_startup,
    cast(l.usd - s.usd_startup - s.usd_failed - s.usd_hedged - s.usd_idle as decimal(18, 9))
        as usd_rendering,
    s.usd_failed, s.usd_hedged, s.usd_idle
from ended l
left join carried c using (lease_id)
left join shared s using (lease_id);
