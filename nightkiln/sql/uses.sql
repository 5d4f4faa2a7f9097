-- Seconds that each lease spent on tries, by what came of them. A worker renders what it was given
-- in that order, so a try begins when it was handed out or when those before it ended. Tries are
-- put in order by millions, so as little as possible goes along: a number for the lease, and what
-- came of the try is settled before.
create or replace view _uses as
with numbered as (
    select lease_id, cast(row_number() over () as integer) as lease from leases
),
called_off as (
    select distinct batch, job_id from attempts where status = 'cancelled' and lease_id is not null
),
won as (
    select batch, job_id, min(finished_at) as won_at
    from attempts semi join called_off using (batch, job_id)
    where status = 'done' and lease_id is not null
    group by batch, job_id
),
tries as (
    select
        lease_id, started_at, finished_at, status,
        case when status = 'cancelled' then batch end as batch,
        case when status = 'cancelled' then job_id end as job_id
    from attempts
),
told as (
    select
        lease, started_at, finished_at,
        cast(case
            when status = 'done' then 0
            when status = 'hedge' or (status = 'cancelled' and finished_at >= won_at) then 1
            else 2
        end as utinyint) as use -- rendering, hedged, failed
    from tries join numbered using (lease_id) left join won using (batch, job_id)
),
placed as (
    select
        *,
        max(finished_at) over (
            partition by lease order by started_at, finished_at
            rows between unbounded preceding and 1 preceding
        ) as busy_until
    from told
),
spent as (
    select
        lease, use,
        sum(greatest(0, date_diff(
            'microsecond', greatest(started_at, coalesce(busy_until, started_at)), finished_at
        ) / 1e6)) as seconds
    from placed
    group by lease, use
)
select
    lease_id,
    coalesce(sum(seconds) filter (use = 0), 0) as rendering_s,
    coalesce(sum(seconds) filter (use = 2), 0) as failed_s,
    coalesce(sum(seconds) filter (use = 1), 0) as hedged_s
from spent join numbered using (lease)
group by lease_id;
