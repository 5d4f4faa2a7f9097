-- What a batch paid each provider, and what for: leases, the jobs done there, USD by use. The uses
-- add up to usd; those of a machine that never came up are all usd_never_up.
select
    l.provider,
    count(*) as leases,
    count(*) filter (l.ready_at is null) as never_up,
    count(*) filter (l.released_at is null) as not_released,
    sum(l.jobs_done) as jobs,
    sum(l.usd) as usd,
    sum(l.usd_estimated) as usd_estimated,
    sum(l.usd_billed) as usd_billed,
    sum(l.usd_estimated) filter (l.usd_billed is not null) as usd_counted,
    sum(w.usd_rendering) as usd_rendering,
    coalesce(sum(w.usd_startup) filter (w.lease <> 'never up'), 0) as usd_startup,
    coalesce(sum(w.usd_startup) filter (w.lease = 'never up'), 0) as usd_never_up,
    sum(w.usd_failed) as usd_failed,
    sum(w.usd_hedged) as usd_hedged,
    sum(w.usd_idle) as usd_idle
from leases l join waste w using (lease_id)
where l.batch = $batch
group by l.provider
order by usd desc, l.provider;
