-- One row per day (UTC) and provider: what leases of that day cost, a lease over midnight shared
-- out by the time in each day, and what was made on it. Over all days usd is that of all leases and
-- what jobs cost beside their lease, to the cent.
create or replace view spend_by_day as
with lived as (
    select
        lease_id, provider, usd, rented_at,
        greatest(rented_at, coalesce(released_at, rented_at)) as until_at
    from leases
),
sliced as (
    select
        *,
        unnest(generate_series(
            date_trunc('day', rented_at), date_trunc('day', until_at), interval 1 day
        )) as begins_at
    from lived
),
-- Shares are rounded from the beginning of the lease on, so that the last one takes what is left.
shared as (
    select
        cast(begins_at as date) as day, provider, lease_id,
        epoch(until_at - rented_at) as lived_s,
        epoch(greatest(begins_at, rented_at) - rented_at) as from_s,
        epoch(least(begins_at + interval 1 day, until_at) - rented_at) as to_s,
        case when to_s >= lived_s then usd else cast(usd * to_s / lived_s as decimal(12, 6)) end
            - case when from_s <= 0 then 0 else cast(usd * from_s / lived_s as decimal(12, 6)) end
            as usd
    from sliced
),
told as (
    select
        day, provider, count(*) as leases, sum(to_s - from_s) / 3600 as hours, sum(usd) as usd,
        0 as jobs, 0 as images
    from shared
    group by day, provider
    union all by name
    select
        cast(finished_at as date) as day, provider, 0 as leases, 0 as hours,
        sum(usd_marginal) as usd,
        count(*) filter (status = 'done') as jobs,
        coalesce(sum(output_count) filter (status = 'done'), 0) as images
    from jobs
    where status <> 'reused'
    group by day, provider
),
days as (
    select
        day, provider,
        cast(sum(leases) as bigint) as leases,
        sum(hours) as hours,
        cast(sum(usd) as decimal(18, 6)) as usd,
        cast(sum(jobs) as bigint) as jobs,
        cast(sum(images) as bigint) as images
    from told
    group by day, provider
)
select
    *,
    cast(sum(usd) over (partition by provider order by day) as decimal(18, 6)) as usd_so_far
from days;
