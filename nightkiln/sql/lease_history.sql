-- What the store knows of the leases of a batch: tries that were committed, and whether a lease
-- has its last row.
select
    lease_id,
    coalesce(jobs_done, 0) as jobs_done,
    coalesce(attempts_failed, 0) as attempts_failed,
    coalesce(busy_s, 0) as busy_s,
    coalesce(is_closed, false) as is_closed
from (
    select
        lease_id,
        count(*) filter (status = 'done') as jobs_done,
        count(*) filter (status = 'failed') as attempts_failed,
        sum(gpu_seconds) as busy_s
    from attempts where batch = $batch group by lease_id
) full join (
    select lease_id, released_at is not null as is_closed from leases where batch = $batch
) using (lease_id)
where lease_id is not null;
