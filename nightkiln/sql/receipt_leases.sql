-- Leases of a batch that are over, their cost by our own count; times are epoch seconds.
select
    lease_id, provider, host, reason, jobs_done, usd_estimated as usd,
    epoch_us(rented_at) / 1e6 as rented_s,
    epoch_us(ready_at) / 1e6 as ready_s,
    epoch_us(released_at) / 1e6 as released_s
from leases
where batch = $batch
order by rented_at, lease_id;
