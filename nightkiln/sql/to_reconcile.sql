-- Leases of a provider whose bill may not be whole yet, those of one batch or (null) of all. What
-- was read an hour after the release is.
select l.lease_id, strftime(l.dt, '%Y-%m-%d') as date, epoch_us(l.rented_at) / 1e6 as rented_s,
    epoch_us(l.released_at) / 1e6 as released_s, l.usd_billed
from leases l
where l.provider = $provider
    and ($batch is null or l.batch = $batch)
    and l.rented_at >= make_timestamp(cast($since_s * 1e6 as bigint))
    and (
        l.billed_at is null or l.released_at is null
        or l.billed_at < l.released_at + interval 1 hour
    )
order by l.rented_at desc
limit $most;
