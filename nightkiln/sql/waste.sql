-- One row per lease that is over: what of its cost no job carries. It was starting, idle, or busy
-- with tries that gave nothing. Over all leases: usd + jobs_usd = leases.usd, to the cent.
create or replace view waste as
with carried as (
    select lease_id, sum(usd - usd_marginal) as usd from jobs where lease_id is not null group by 1
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
    l.reason
from leases l left join carried c using (lease_id);
