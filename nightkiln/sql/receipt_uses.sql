-- Seconds that each lease of a batch spent on tries, by what came of them. A worker renders what it
-- was given in that order, so a try begins when it was handed out or when those before it ended.
with tries as (
    select
        lease_id, job_id, status, started_at, finished_at,
        max(finished_at) over (
            partition by lease_id order by attempt_id
            rows between unbounded preceding and 1 preceding
        ) as busy_until
    from attempts
    where batch = $batch
),
won as (
    select job_id, min(finished_at) as won_at from tries where status = 'done' group by job_id
),
spent as (
    select
        lease_id,
        case
            when status = 'done' then 'rendering'
            when status = 'hedge' or (status = 'cancelled' and finished_at >= won_at) then 'hedged'
            else 'failed'
        end as use,
        date_diff(
            'microsecond', greatest(started_at, coalesce(busy_until, started_at)), finished_at
        ) / 1e6 as seconds
    from tries left join won using (job_id)
)
select
    lease_id,
    coalesce(sum(greatest(seconds, 0)) filter (use = 'rendering'), 0) as rendering_s,
    coalesce(sum(greatest(seconds, 0)) filter (use = 'failed'), 0) as failed_s,
    coalesce(sum(greatest(seconds, 0)) filter (use = 'hedged'), 0) as hedged_s
from spent
group by lease_id;
