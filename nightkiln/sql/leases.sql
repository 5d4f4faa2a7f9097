-- One row per lease that is over, with what it cost: usd_estimated by our own count, usd_billed as
-- its provider said last. A bill still grows for a while after the release, so until it was read an
-- hour later the dearer of the two counts. The parts are null in rows of earlier versions. busy_s
-- is at least what the lease's committed jobs took: some are committed after its row was written.
create or replace view leases as
with told as (
    select *
    from read_parquet('{{root}}leases/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date}{{by_name}})
    union all by name
    select
        cast(null as decimal(12, 6)) as usd_gpu, cast(null as decimal(12, 6)) as usd_storage,
        cast(null as decimal(12, 6)) as usd_in, cast(null as decimal(12, 6)) as usd_out,
        cast(null as double) as gpu_billed_s, cast(null as double) as gb_in,
        cast(null as double) as gb_out
    where false
),
ended as (
    select *
    from told
    qualify row_number() over (
        partition by lease_id
        order by released_at desc nulls last, epoch desc, busy_s desc, usd desc
    ) = 1
),
shown as (
    select lease_id, sum(gpu_seconds) as busy_s
    from _settled where lease_id is not null group by lease_id
)
select
    ended.* replace (
        case
            when billed.usd is null then ended.usd
            when billed.read_at >= ended.released_at + interval 1 hour then billed.usd
            else greatest(billed.usd, ended.usd)
        end as usd,
        greatest(ended.busy_s, coalesce(shown.busy_s, 0)) as busy_s
    ),
    ended.usd as usd_estimated,
    billed.usd as usd_billed,
    billed.read_at as billed_at
from ended left join charges billed using (lease_id) left join shown using (lease_id);
