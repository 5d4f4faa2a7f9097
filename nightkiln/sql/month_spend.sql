-- What all batches cost between two moments (UTC): leases as billed where that is known, one that
-- lived over an edge by its time inside, and what jobs cost beside their lease.
with lived as (
    select usd, rented_at, greatest(rented_at, coalesce(released_at, rented_at)) as until_at
    from leases
    where rented_at < $end and greatest(rented_at, coalesce(released_at, rented_at)) >= $begin
),
inside as (
    select
        usd,
        epoch_us(until_at) - epoch_us(rented_at) as life_us,
        epoch_us(least(until_at, $end)) - epoch_us(greatest(rented_at, $begin)) as inside_us
    from lived
)
select cast(
    coalesce((
        select sum(case when inside_us >= life_us then usd else usd * inside_us / life_us end)
        from inside
    ), 0)
    + coalesce((
        select sum(usd_marginal) from _settled
        where status <> 'reused' and finished_at >= $begin and finished_at < $end
    ), 0)
as decimal(18, 6)) as usd;
