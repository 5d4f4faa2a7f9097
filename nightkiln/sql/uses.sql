-- Seconds that each lease spent on tries, by what came of them. A worker renders what it was given
-- in that order, so a try begins when it was handed out or when those before it ended.
create or replace view _uses as
with tries as (
    select
        lease_id, batch, job_id, status, started_at, finished_at,
        max(finished_at) over (
            partition by lease_id order by started_at, finished_at
            rows between unbounded preceding and 1 preceding
        ) as busy_until
    from attempts
    where lease_id is not null
),
called_off as (
    select distinct batch, job_id from tries where status = 'cancelled'
),
won as (
    select batch, job_id, min(finished_at) as won_at
    from tries semi join called_off using (batch, job_id)
    where status = 'done'
    group by batch, job_id
),
spent as (
    select
        lease_id,
        case
            when status = 'done' then 'rendering'
            when status = 'hedge' or (status = 'cancelled' and finished_at >= won_at) then 'hedged'
            else 'failed'
        end as use,
        greatest(0, date_diff(
            'microsecond', greatest(started_at, coalesce(busy_until, started_at)), finished_at
        ) / 1e6) as seconds
    from tries left join won using (batch, job_id)
)
select
    lease_id,
    coalesce(sum(seconds) filter (use = 'rendering'), 0) as rendering_s,
    coalesce(sum(seconds) filter (use = 'failed'), 0) as failed_s,
    coalesce(sum(seconds) filter (use = 'hedged'), 0) as hedged_s
from spent
group by lease_id;
