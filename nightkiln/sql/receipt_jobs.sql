-- Jobs of a batch by how they ended: how many, how many of them took more than one try, and when
-- the last one ended (epoch seconds).
select
    status,
    count(*) as jobs,
    count(*) filter (attempt_count > 1) as again,
    epoch_us(max(finished_at)) / 1e6 as last_s
from jobs
where batch = $batch
group by status;
