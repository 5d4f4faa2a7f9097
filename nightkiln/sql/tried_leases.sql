-- The machines of a batch: how long each took to be ready, and what it cost.
select epoch(ready_at) - epoch(rented_at) as startup_s, usd
from leases
where batch = $batch
order by rented_at, lease_id;
